"""The training that a resume state belongs to, and what happens to an earlier training."""

import logging
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import training_example
from leaving import killed_while_writing
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.checkpoints import newest_checkpoint, save_checkpoint
from mobius_pipeline.training.description import Identity
from mobius_pipeline.training.resume_identity import claim, forked_at


def identity(**changes: Any) -> Identity:
    return Identity(
        **{
            "model": {"width": 1.0},
            "train": {"rate": 0.1},
            "fingerprints": {"config": "c", "base": "a", "data": "b"},
            "forked_at": None,
        }
        | changes
    )


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A training that was stopped after step 4."""
    folder = tmp_path / "earlier"
    claim(folder, identity(), 10, "restart", [])
    save_checkpoint(folder, training_example.checkpoint(4, {"x": torch.ones(1)}), keep_last=1)
    return folder


SLOWER = identity(train={"rate": 0.05})


def test_starts_again_beside_it(earlier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    claim(tmp_path / "new", SLOWER, 10, "restart", [earlier])
    assert "Starting at step 0." in caplog.text
    assert "train.rate is 0.05 and was 0.1" in caplog.text
    assert newest_checkpoint(tmp_path / "new") is None
    assert forked_at(tmp_path / "new") is None


def test_refuses_with_what_differs(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match=r"train\.rate is 0\.05 and was 0\.1.*on_mismatch=fork"):
        claim(tmp_path / "new", SLOWER, 10, "refuse", [earlier])
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("place", ["new", "earlier"])
def test_forks_the_newest_checkpoint(place: str, earlier: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is its own state
        claim(tmp_path / place, SLOWER, 10, "fork", [earlier])
        checkpoint = newest_checkpoint(tmp_path / place)
        assert checkpoint is not None
        assert checkpoint.step == forked_at(tmp_path / place) == 4
    assert newest_checkpoint(earlier) is not None


def test_the_training_saved_last_counts(earlier: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    claim(later, identity(train={"rate": 0.2}), 10, "restart", [])
    save_checkpoint(later, training_example.checkpoint(7, {"x": torch.ones(1)}), keep_last=1)
    claim(tmp_path / "new", SLOWER, 10, "fork", [earlier, later])
    assert forked_at(tmp_path / "new") == 7


@pytest.mark.parametrize(
    ("changes", "steps", "reason"),
    [
        ({"model": {"width": 0.5}}, 10, r"would not fit: model\.width is 0\.5 and was 1\.0"),
        ({"fingerprints": {"config": "c", "base": "z", "data": "b"}}, 10, r"fingerprints\.base is 'z'"),
        ({"train": {"rate": 1}}, 4, r"is of step 4, and this training ends at 4"),
    ],
)
def test_what_cannot_be_forked(
    changes: dict[str, Any], steps: int, reason: str, earlier: Path, tmp_path: Path
) -> None:
    with pytest.raises(MobiusError, match=reason):
        claim(tmp_path / "new", identity(**changes), steps, "fork", [earlier])


def test_a_folder_of_another_training_is_not_started_again(earlier: Path) -> None:
    with pytest.raises(MobiusError, match="of another training"):
        claim(earlier, SLOWER, 10, "restart", [])


DAMAGED = ("", "[]", "{}", '{"model": 1, "train": {}, "fingerprints": {}, "forked_at": null}', "\x00")


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_description_is_named_and_the_command_helps(earlier: Path, text: str) -> None:
    (earlier / "training.json").write_text(text)
    with pytest.raises(MobiusError, match=r"training\.json cannot be used") as reported:
        claim(earlier, identity(), 10, "restart", [])
    (command,) = re.findall("`(rm .*?)`", str(reported.value))
    subprocess.run(command, shell=True, check=True)
    claim(earlier, identity(), 10, "restart", [])
    checkpoint = newest_checkpoint(earlier)
    assert checkpoint is not None
    assert checkpoint.step == 4
    assert forked_at(earlier) is None


@pytest.mark.parametrize("text", DAMAGED)
def test_an_earlier_damaged_description_stops_only_what_needs_it(
    earlier: Path, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (earlier / "training.json").write_text(text)
    for on_mismatch in ("refuse", "fork"):
        with pytest.raises(MobiusError, match=r"earlier/training\.json cannot be used"):
            claim(tmp_path / "new", SLOWER, 10, on_mismatch, [earlier])
    claim(tmp_path / "new", SLOWER, 10, "restart", [earlier])
    assert "earlier/training.json cannot be used" in caplog.text
    assert forked_at(tmp_path / "new") is None


def test_what_a_killed_run_left_of_a_checkpoint_goes(earlier: Path) -> None:
    killed_while_writing(earlier / "step-00000006")
    claim(earlier, identity(), 10, "restart", [])
    assert not list(earlier.glob(".*"))
    assert newest_checkpoint(earlier) is not None
