"""Retry work on a clip that fails, then report the clip instead of ending the run.

A clip is decoded in an isolated process (`media.isolated_worker`). The VAE runs in the process that holds its
device: this one, one of `latents.processes`, or a Ray actor. Daft restarts an actor that dies and repeats its
task, but does not count: a clip that always kills its actor would be retried without end. `InFlight`
therefore counts, outside of the actor, how often each task was started.
"""

import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.isolated_worker import Failed
from mobius_pipeline.runtime.daft_runner import EngineConfig
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words

T = TypeVar("T")

DIED = "its process was killed or crashed each time"
_LONGEST = 200  # characters of a reason


@dataclass(frozen=True)
class Attempts:
    """The retry policy; it is pickled and sent to the workers.

    Attributes:
        retries: Number of retries of one task.
        in_flight: Name of the `InFlight` actor that counts deaths; None if a worker's death ends the run.
    """

    retries: int
    in_flight: str | None = None

    def one_at_a_time(self, clip_id: str, work: Callable[[], T]) -> tuple[T | None, str]:
        """Run `work` for one clip with retries; the worker runs nothing else meanwhile.

        Returns:
            (result, ""), or (None, reason).

        Raises:
            Exception: An error that is not the fault of this clip and would recur with the next one.
        """
        try:
            return self._watched(clip_id, lambda: attempt(work, self.retries))
        except _Deadly:
            return None, DIED

    def of_the_run(self, name: str, work: Callable[[], T]) -> T:
        """Run `work` that the run cannot continue without, such as loading the VAE, and return its result.

        Starts are counted for each worker separately.

        Raises:
            MobiusError: If its process died in every attempt.
        """
        try:
            return self._watched(f"{name} {_worker()}" if self.in_flight else name, work)
        except _Deadly as error:
            raise MobiusError(
                f"The process that worked on {name} was killed or crashed each time; its machine may be "
                "short of memory. Finished shards are kept, and `kedro run --pipelines=encode` encodes only "
                "the rest."
            ) from error

    def _watched(self, name: str, work: Callable[[], T]) -> T:
        if self.in_flight is None:
            return work()
        import ray

        in_flight = ray.get_actor(self.in_flight)
        if ray.get(in_flight.begin.remote(name)) > self.retries:
            raise _Deadly
        try:
            return work()
        finally:
            ray.get(in_flight.end.remote(name))


class _Deadly(Exception):  # noqa: N818 (used only in this module)
    """The task has killed its process so often that it is not retried."""


class InFlight:
    """Counts how often each unfinished task was started; a Ray actor that outlives the workers."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._times: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """Return how often this work has died; count a new start unless its retries are used up."""
        deaths = self._times[name]
        if deaths <= self._retries:
            self._times[name] += 1
        return deaths

    def end(self, name: str) -> None:
        """Forget a task that its process has survived."""
        del self._times[name]


@contextmanager
def attempts(retries: int, engine: EngineConfig) -> Iterator[Attempts]:
    """Yield the retry policy for the engine's workers; the engine must be running."""
    if engine.name == "native":
        yield Attempts(retries)
        return
    import ray

    name = f"in-flight-{uuid4().hex}"  # by name: a Ray client cannot send the actor's handle
    in_flight = ray.remote(num_cpus=0)(InFlight).options(name=name).remote(retries)
    try:
        yield Attempts(retries, name)
    finally:
        ray.kill(in_flight)


def attempt(work: Callable[[], T], retries: int) -> tuple[T | None, str]:
    """Run `work`, with up to `retries` retries.

    A `MediaError` is not retried, because the file stays unusable; `Failed` is not, because the worker
    retried.

    Returns:
        (result, ""), or (None, reason of the last failure).

    Raises:
        Exception: An error that would recur with the next clip: one of this project, a full disk, a missing
            module, or a failed GPU.
    """
    reason = ""
    for _ in range(retries + 1):
        try:
            return work(), ""
        except (MediaError, Failed) as error:
            return None, str(error)
        except Exception as error:
            if _meets_the_next_clip(error):
                raise
            reason = _reason(error)  # not the error: its traceback would keep the tensors in memory
    return None, reason


def _meets_the_next_clip(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # not imported here: decoding processes do not need it
    is_gpu = torch is not None and isinstance(error, torch.AcceleratorError)
    return is_gpu or isinstance(error, ImportError) or in_plain_words(error) is not None


def _reason(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    kind = type(error).__name__
    return textwrap.shorten(f"{kind}: {first}" if first else kind, _LONGEST, placeholder=" ...")


def _worker() -> str:
    import ray

    return str(ray.get_runtime_context().get_actor_id())  # unchanged when the actor is restarted
