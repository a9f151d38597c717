"""Checkpoints are whole, or named and passed over."""

import logging
from pathlib import Path

import pytest
import torch

from mobius_pipeline.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(
            folder, Checkpoint(step, {"weight": torch.tensor([float(step)])}, {"loss": step / 3}), 3
        )


def test_gives_back_what_was_saved(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 2, 10)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.step, newest.tensors["weight"].item(), newest.meta) == (10, 10.0, {"loss": 10 / 3})


def test_keeps_the_last_ones(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (3, 4, 5)]


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
