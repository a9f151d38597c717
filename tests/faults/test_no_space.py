"""A real full disk: existing files are intact, no partial file is left, and the error says so."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

import tiny
import training_example
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.check import import_base
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from mobius_pipeline.runtime.files import atomic_folder, folder_digest
from mobius_pipeline.training.checkpoints import newest_checkpoint, save_checkpoint

KIB = 1024
Disk = Callable[[int], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Function that creates a disk of the given number of KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def test_a_checkpoint(disk: Disk) -> None:
    folder = disk(1000)

    def save(step: int) -> None:
        tensors = {"weight": torch.full((100 * KIB,), float(step))}  # 400 KiB
        save_checkpoint(folder, training_example.checkpoint(step, tensors), keep_last=3)

    save(1)
    save(2)
    left = free(folder)
    with pytest.raises(MobiusError, match=r"Cannot write the checkpoint .*step-00000003 .*make room"):
        save(3)
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert newest.step == 2
    assert free(folder) == left
    shutil.rmtree(folder / "step-00000001")
    save(3)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_published_folder(disk: Disk) -> None:
    folder = disk(1000)

    def publish(byte: bytes) -> None:
        with atomic_folder(folder / "model") as partial:
            for name in ("one", "two"):
                (partial / name).write_bytes(byte * 300 * KIB)

    publish(b"1")
    before, left = folder_digest(folder / "model"), free(folder)
    with pytest.raises(OSError, match="No space left") as raised:
        publish(b"2")
    assert "The disk is full" in str(in_plain_words(raised.value))
    assert folder_digest(folder / "model") == before
    assert free(folder) == left


def test_an_imported_base(disk: Disk, tiny_base: Path) -> None:
    size = sum(path.stat().st_size for path in tiny_base.rglob("*") if path.is_file())
    folder = disk(size * 3 // 2 // KIB)
    import_base(tiny_base, folder / "base")
    before, left = folder_digest(folder / "base"), free(folder)
    with pytest.raises((OSError, MobiusError), match="No space left") as raised:
        import_base(tiny_base, folder / "base")
    assert in_plain_words(raised.value)
    assert folder_digest(folder / "base") == before
    assert free(folder) == left


@pytest.mark.parametrize("kib", [4, 24, 40])
def test_an_encode(
    kib: int, disk: Disk, sample_table: pd.DataFrame, sample_clips: Path, tiny_base: Path, tmp_path: Path
) -> None:
    folder = disk(kib)

    def encode() -> None:
        config = tiny.encode_config(clips_per_shard=2)
        update_store(
            folder / "latents", sample_table[:12], sample_clips, BaseModel(tiny_base), tiny.CLIP, config
        )

    with pytest.raises(MobiusError, match=r"could not be written \(No space left on device\)\. Make room"):
        encode()
    assert not list(folder.rglob("*partial*"))
    finished = {path: path.stat().st_mtime_ns for path in folder.rglob("shard-*.safetensors")}
    subprocess.run(["mount", "-o", "remount,size=10m", str(folder)], check=True)
    encode()
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(LatentsStore(folder / "latents").index) == 12 + 1
