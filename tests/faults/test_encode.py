"""An encode that is killed, or runs out of room, leaves what it finished to the next one."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import encoder
import pandas as pd
import psutil
import pytest

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.latents.store import LatentsStore

Start = Callable[..., BaseProcess]  # of an encode into a folder
CLIPS = 12


@pytest.fixture(scope="module")
def start(
    processes: Any,
    tmp_path_factory: pytest.TempPathFactory,
    sample_table: pd.DataFrame,
    sample_clips: Path,
    tiny_base: Path,
) -> Start:
    table = tmp_path_factory.mktemp("manifest") / "manifest.parquet"
    sample_table[:CLIPS].to_parquet(table)

    def begin(root: Path, *more: object, target: Callable[..., None] = encoder.encode) -> BaseProcess:
        process: BaseProcess = processes.Process(
            target=target, args=(root, table, sample_clips, tiny_base, *more)
        )
        process.start()
        return process

    return begin


def ended(process: BaseProcess) -> None:
    process.join()
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def straight(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose encode nobody stopped."""
    root = tmp_path_factory.mktemp("straight")
    ended(start(root))
    return root


def files(root: Path) -> dict[str, bytes]:
    """Every file of a store but its lock."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def shards(root: Path) -> dict[str, int]:
    """Each shard of clips and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in root.rglob("shard-*.safetensors")}


@pytest.mark.parametrize("finished", [1, 4])
def test_a_killed_encode_goes_on_at_the_last_finished_shard(
    finished: int, start: Start, straight: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    while len(shards(tmp_path)) < finished:
        assert process.is_alive()
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = shards(tmp_path)
    assert finished <= len(left) < CLIPS // 2
    assert not list(tmp_path.rglob("index.parquet"))
    ended(start(tmp_path))
    assert left.items() <= shards(tmp_path).items()  # not one of them was written again
    assert files(tmp_path) == files(straight)


def test_both_engines_write_the_same_bytes(start: Start, straight: Path, tmp_path: Path) -> None:
    ended(start(tmp_path, "ray"))
    assert files(tmp_path) == files(straight)


def test_the_death_of_a_cluster_worker_loses_nothing(start: Start, straight: Path, tmp_path: Path) -> None:
    """The process that Ray runs decoder and VAE in is killed while it loads them; Ray starts another."""
    process = start(tmp_path, "ray")
    while not (workers := [one for one in children(process) if "UDFProject" in title(one)]):
        assert process.is_alive()
        time.sleep(0.05)
    workers[0].kill()
    ended(process)
    assert files(tmp_path) == files(straight)


def children(process: BaseProcess) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def test_a_full_disk_is_told_and_loses_nothing(start: Start, straight: Path, tmp_path: Path) -> None:
    """Room for a shard of clips, but not for one of captions."""
    sizes = {name: len(data) for name, data in files(straight).items()}
    largest = max(size for name, size in sizes.items() if "/shard-" in name)
    assert largest < max(size for name, size in sizes.items() if "/text-" in name)
    ended(start(tmp_path, largest, target=encoder.encode_without_room))
    told = (tmp_path / "error.txt").read_text()
    assert "text-" in told
    assert "Make room" in told
    (tmp_path / "error.txt").unlink()
    left = shards(tmp_path)
    assert len(left) == CLIPS // 2
    assert not list(tmp_path.rglob("*partial*"))
    ended(start(tmp_path))
    assert left == shards(tmp_path)
    assert files(tmp_path) == files(straight)


def test_a_second_encode_is_refused_by_the_first_ones_process(
    start: Start, tmp_path: Path, sample_table: pd.DataFrame, sample_clips: Path, tiny_base: Path
) -> None:
    import tiny
    from mobius_pipeline.latents.encode import update_store

    process = start(tmp_path)
    while not shards(tmp_path):
        assert process.is_alive()
        time.sleep(0.001)
    os.kill(process.pid or 0, signal.SIGSTOP)
    with pytest.raises(MobiusError, match=f"being written by process {process.pid} on"):
        update_store(tmp_path, sample_table, sample_clips, tiny_base, tiny.CLIP, tiny.encode_config())
    os.kill(process.pid or 0, signal.SIGCONT)
    ended(process)
    assert len(LatentsStore(tmp_path).index) == CLIPS + 1
