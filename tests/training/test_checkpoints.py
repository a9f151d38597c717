"""Checkpoints are complete, or named and skipped."""

import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import sha256, write_json
from mobius_pipeline.training.checkpoints import newest_checkpoint, save_checkpoint
from training_example import checkpoint


def save(folder: Path, *steps: int, keep_every: int | None = None) -> None:
    for step in steps:
        saved = checkpoint(step, {"weight": torch.tensor([float(step)])}, flops=step / 3)
        save_checkpoint(folder, saved, keep_last=3, keep_every=keep_every)


def test_gives_back_what_was_saved(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 2, 10)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.step, newest.tensors["weight"].item(), newest.progress.history.flops) == (10, 10.0, 10 / 3)


def test_keeps_the_last_ones(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (3, 4, 5)]


def test_keeps_the_round_ones_too(tmp_path: Path) -> None:
    save(tmp_path, *range(1, 9), keep_every=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (4, 6, 7, 8)]


FULL = """
    import resource, sys, torch
    from pathlib import Path
    from mobius_pipeline.runtime.errors import MobiusError
    from mobius_pipeline.training.checkpoints import Checkpoint, Progress, save_checkpoint
    from mobius_pipeline.training.history import History

    progress = Progress(step=2, history=History(), ema_steps=2, processes=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # bytes of a file; beyond them, as on a full disk
    try:
        save_checkpoint(Path(sys.argv[1]), Checkpoint({"weight": torch.zeros(1)}, progress), keep_last=3)
    except MobiusError as error:
        print(error)
"""


def test_what_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 1)
    before = newest_checkpoint(tmp_path)
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"Cannot write the checkpoint .*step-00000002 .*too large.*make room", said)
    assert newest_checkpoint(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]  # nothing partly written


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MobiusError, match=r"Cannot write the checkpoint .*file/state"):
        save(tmp_path / "file/state", 1)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["removed", "cut", "changed"])
def test_passes_over_a_damaged_one(
    tmp_path: Path, name: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, 2)
    victim = tmp_path / "step-00000002" / name
    data = victim.read_bytes()
    if harm == "removed":
        victim.unlink()
    else:
        victim.write_bytes(
            data[: len(data) // 2] if harm == "cut" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
        )
    with caplog.at_level(logging.WARNING):
        newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1
    assert "step-00000002" in caplog.text
    assert victim.parent.is_dir()  # skipped, not deleted


def test_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".step-00000002.partial").mkdir()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1


def sealed(folder: Path) -> None:
    """Write a checkpoint's manifest again, for its present files."""
    write_json(
        folder / "manifest.json",
        {name: sha256(folder / name) for name in ("state.safetensors", "state.json")},
    )


def no_safetensors(folder: Path) -> None:
    (folder / "state.safetensors").write_bytes(b"weights")
    sealed(folder)


def no_step(folder: Path) -> None:
    (folder / "state.json").write_text("[]")
    sealed(folder)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").write_text('{"../other": "00"}'),
        lambda folder: (folder / "manifest.json").write_text('{"state.json": 1, "state.safetensors": 2}'),
        no_safetensors,
        no_step,
    ],
)
def test_passes_over_what_is_no_checkpoint(tmp_path: Path, harm: Callable[[Path], Any]) -> None:
    save(tmp_path, 1, 2)
    harm(tmp_path / "step-00000002")
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1


def test_strays_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000004.bak")
    (tmp_path / "step-00000009").touch()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1
    save(tmp_path, 3, 4, 5)
    assert (tmp_path / "step-00000004.bak").is_dir()


def test_a_damaged_later_one_does_not_count_among_those_that_stay(tmp_path: Path) -> None:
    save(tmp_path, 1, 7, 8, 9)
    for step in (7, 8, 9):
        (tmp_path / f"step-{step:08d}/manifest.json").write_text("{}")
    save(tmp_path, 2)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 2
