"""If `encode` is killed or the disk is full, the next run keeps the finished shards."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import deadly
import encoder
import failing
import pandas as pd
import pytest

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.shards import row_names
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.errors import MobiusError

Start = Callable[..., BaseProcess]  # starts `encode` into a folder
CLIPS = 12
DEADLY_READ, DEADLY = (
    [2, 3],
    [6, 7],
)  # clips that kill their decoder, and those that kill the VAE's worker, in every attempt


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
    """A store that was encoded without interruption."""
    root = tmp_path_factory.mktemp("straight")
    ended(start(root))
    return root


def files(root: Path) -> dict[str, bytes]:
    """Return all files of a store except its lock."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def shards(root: Path) -> dict[str, int]:
    """Return each shard of clips and its modification time, also while scratch folders come and go."""
    return {path.name: path.stat().st_mtime_ns for path in root.glob("*/shard-*.safetensors")}


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


def test_a_full_disk_is_reported_and_loses_nothing(start: Start, straight: Path, tmp_path: Path) -> None:
    """There is room for a shard of clips, but not for one of captions."""
    sizes = {name: len(data) for name, data in files(straight).items()}
    largest = max(size for name, size in sizes.items() if "/shard-" in name)
    assert largest < max(size for name, size in sizes.items() if "/text-" in name)
    ended(start(tmp_path, largest, target=encoder.encode_without_room))
    reported = (tmp_path / "error.txt").read_text()
    assert "text-" in reported
    assert "Make room" in reported
    (tmp_path / "error.txt").unlink()
    left = shards(tmp_path)
    assert len(left) == CLIPS // 2
    assert not list(tmp_path.rglob("*partial*"))
    ended(start(tmp_path))
    assert left == shards(tmp_path)
    assert files(tmp_path) == files(straight)


def encoded(root: Path) -> list[str]:
    """Return the ids of the clips in a store's shards."""
    return [clip_id for path in root.rglob("shard-*.safetensors") for clip_id in row_names(path)]


def test_a_clip_that_fails_is_tried_again_then_reported_and_the_others_kept(
    start: Start, straight: Path, tmp_path: Path, sample_table: pd.DataFrame, sample_clips: Path
) -> None:
    one, two = sample_table["path"].iloc[[3, 8]]

    def both(how: str, times: int) -> str:
        reading = failing.in_reading(one, how, times)
        return reading + failing.in_the_vae(sample_clips, two, how, times)

    runs = [("once", both("raise", 1)), ("always", both("raise", 9)), ("always", "")]
    runs += [("refused", failing.in_the_vae(sample_clips, two, "refuse", 9))]
    ended(start(tmp_path, "native", runs, target=encoder.encode_failing))
    tried = deadly.tried(tmp_path / "faults")
    assert sorted(map(tried.count, set(tried))) == [4, 5]  # twice a run; what is ours, once
    once, always, after, refused = ((tmp_path / f"{number}.txt").read_text() for number in range(4))
    assert once == after == ""
    assert files(tmp_path / "once") == files(straight)
    assert "2 clips" in always
    assert f"{one} (RuntimeError: out of luck)" in always
    assert f"{two} (RuntimeError: out of luck)" in always
    assert sorted(encoded(tmp_path / "always")) == sorted(sample_table["clip_id"][:CLIPS])
    assert refused == "nobody can"


def test_what_kills_its_decoder_is_named_and_the_others_encoded(
    start: Start, tmp_path: Path, sample_table: pd.DataFrame
) -> None:
    """Also in the next run, where it is alone."""
    once, always = sample_table["path"].iloc[[2, 5]]
    lines = failing.in_reading(once, "kill", 1) + failing.in_reading(always, "kill", 9)
    runs = [("store", lines), ("store", lines), ("store", failing.in_reading(always, "raise", 99))]
    ended(start(tmp_path, "native", runs, target=encoder.encode_failing))
    first, alone, raised = ((tmp_path / f"{number}.txt").read_text() for number in range(3))
    assert first == alone
    assert "1 clips in " in first
    assert f"cannot be encoded: {always} (the process that read it was ended by SIGKILL)" in first
    assert f"{always} (RuntimeError: out of luck)" in raised
    assert "To leave a clip out" in raised
    others = sample_table[:CLIPS][sample_table["path"][:CLIPS] != always]
    assert sorted(encoded(tmp_path / "store")) == sorted(others["clip_id"])


@pytest.fixture(scope="module")
def on_ray(
    start: Start, tmp_path_factory: pytest.TempPathFactory, sample_table: pd.DataFrame, sample_clips: Path
) -> Path:
    """Encode on one cluster: without faults, with deadly ones, and with an error that is raised.

    Two actors encode, then one, which dies five times: once more than Daft would restart it.
    """
    once_read, once, wrong = sample_table["path"].iloc[[1, 4, 9]]
    faults = failing.in_reading(once_read, "kill", 1) + failing.in_reading(wrong, "raise", 9)
    faults += "".join(failing.in_reading(path, "kill", 9) for path in sample_table["path"].iloc[DEADLY_READ])
    faults += failing.in_the_vae(sample_clips, once, "kill", 1)
    for path in sample_table["path"].iloc[DEADLY]:
        faults += failing.in_the_vae(sample_clips, path, "kill", 9)
    refused = failing.in_the_vae(sample_clips, once, "refuse", 9)
    root = tmp_path_factory.mktemp("ray")
    one, two = {"processes": 1}, {"processes": 2}
    runs = [("whole", "", two), ("deadly", faults, one), ("refused", refused, one)]
    ended(start(root, "ray", runs, target=encoder.encode_failing))
    return root


@pytest.mark.ray
def test_both_engines_write_the_same_bytes(on_ray: Path, straight: Path) -> None:
    assert (on_ray / "0.txt").read_text() == ""
    assert files(on_ray / "whole") == files(straight)


@pytest.mark.ray
def test_a_worker_that_dies_is_started_again_and_what_it_always_dies_of_reported(
    on_ray: Path, sample_table: pd.DataFrame
) -> None:
    fatal, wrong = sample_table["path"].iloc[DEADLY_READ + DEADLY], sample_table["path"].iloc[9]
    reported = (on_ray / "1.txt").read_text()
    assert "5 clips" in reported
    for path in fatal.iloc[: len(DEADLY_READ)]:
        assert f"{path} (the process that read it was ended by SIGKILL)" in reported
    for path in fatal.iloc[len(DEADLY_READ) :]:
        assert f"{path} (its process was killed or crashed each time)" in reported
    assert f"{wrong} (RuntimeError: out of luck)" in reported
    failed = sample_table["path"].isin([*fatal, wrong])
    assert sorted(encoded(on_ray / "deadly")) == sorted(sample_table["clip_id"][~failed][: CLIPS - 5])


@pytest.mark.ray
def test_an_error_of_ours_keeps_its_words_on_its_way_through_ray(on_ray: Path) -> None:
    assert (on_ray / "2.txt").read_text() == "nobody can"


def test_a_second_encode_is_refused_by_the_first_ones_process(
    start: Start, tmp_path: Path, sample_table: pd.DataFrame, sample_clips: Path, tiny_base: Path
) -> None:
    import tiny
    from mobius_pipeline.latents.update import update_store

    process = start(tmp_path)
    while not shards(tmp_path):
        assert process.is_alive()
        time.sleep(0.001)
    os.kill(process.pid or 0, signal.SIGSTOP)
    with pytest.raises(MobiusError, match=f"being written by process {process.pid} on"):
        update_store(
            tmp_path, sample_table, sample_clips, BaseModel(tiny_base), tiny.CLIP, tiny.encode_config()
        )
    os.kill(process.pid or 0, signal.SIGCONT)
    ended(process)
    assert len(LatentsStore(tmp_path).index) == CLIPS + 1
