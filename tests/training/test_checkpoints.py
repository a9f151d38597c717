"""Checkpoints are whole, or named and passed over."""

import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint


def save(folder: Path, *steps: int, keep_every: int | None = None) -> None:
    for step in steps:
        checkpoint = Checkpoint(step, {"weight": torch.tensor([float(step)])}, {"loss": step / 3})
        save_checkpoint(folder, checkpoint, keep_last=3, keep_every=keep_every)


def test_gives_back_what_was_saved(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 2, 10)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.step, newest.tensors["weight"].item(), newest.meta) == (10, 10.0, {"loss": 10 / 3})


def test_keeps_the_last_ones(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (3, 4, 5)]


def test_keeps_the_round_ones_too(tmp_path: Path) -> None:
    save(tmp_path, *range(1, 9), keep_every=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (4, 6, 7, 8)]


FULL = """
    import resource, sys, torch
    from pathlib import Path
    from mobius_pipeline.errors import MobiusError
    from mobius_pipeline.training.checkpoints import Checkpoint, save_checkpoint

    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # bytes of a file; beyond them, as on a full disk
    try:
        save_checkpoint(Path(sys.argv[1]), Checkpoint(2, {"weight": torch.zeros(1)}, {}), keep_last=3)
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
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]  # nothing half written


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
    assert victim.parent.is_dir()  # passed over, not deleted


def test_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".step-00000002.filling").mkdir()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1
