"""Which failures are retried, and which are not."""

import errno
from collections.abc import Callable
from typing import NoReturn

import pytest
import torch

from mobius_pipeline.latents.retries import InFlight, attempt
from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.runtime.errors import MobiusError


def failing(*errors: Exception) -> Callable[[], int]:
    """Return work that raises these errors in turn, then returns the number of errors left."""
    left = list(errors)

    def work() -> int:
        if left:
            raise left.pop(0)
        return len(left)

    return work


def test_a_failure_is_tried_again() -> None:
    short = torch.OutOfMemoryError("CUDA out of memory. " + "Tried to allocate much. " * 20)
    assert attempt(failing(short), 1) == (0, "")
    found, reason = attempt(failing(KeyError("odd"), short), 1)
    assert found is None
    assert reason.startswith("OutOfMemoryError: CUDA out of memory.")
    assert len(reason) <= 200
    assert attempt(failing(ValueError()), 0) == (None, "ValueError")


def test_a_media_file_is_not_tried_again() -> None:
    work = failing(MediaError("has no frames"))
    assert attempt(work, 5) == (None, "has no frames")
    assert work() == 0


@pytest.mark.parametrize(
    "error",
    [
        MobiusError("of ours"),
        OSError(errno.ENOSPC, "No space left on device"),
        ModuleNotFoundError("No module named 'av'"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_would_meet_the_next_clip_too_is_raised_at_once(error: Exception) -> None:
    work = failing(error)
    with pytest.raises(type(error)):
        attempt(work, 5)
    assert work() == 0


def test_ctrl_c_is_no_failure() -> None:
    def interrupted() -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, 5)


def test_what_was_begun_and_never_ended_is_counted() -> None:
    begun = InFlight(retries=1)
    assert [begun.begin("deadly") for _ in range(4)] == [0, 1, 2, 2]  # the others did not touch it
    begun.begin("harmless")
    begun.end("harmless")
    assert begun.begin("harmless") == 0
