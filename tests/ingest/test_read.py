"""Sources are read in processes that may die: good ones are not lost, known ones are not read again."""

import errno
import hashlib
import multiprocessing.context
import os
import pickle
import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from misbehaving import is_imported, misbehave

from ingested import ingested
from mobius_pipeline.ingest import dataflow
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.decode_cache import Hashes
from mobius_pipeline.ingest.describe import describe
from mobius_pipeline.ingest.read import in_order
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.errors import MediaError, out_of_memory
from mobius_pipeline.media.isolated_worker import Failed, Worker, WorkerLimits
from mobius_pipeline.media.write import write_gif, write_mp4
from mobius_pipeline.runtime.daft_runner import NATIVE
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.locks import only_writer

pytestmark = pytest.mark.slow

CLIP = ClipFormat(frames=4, height=16, width=16, fps=8)
LIMITS = WorkerLimits(seconds=20, memory_mib=2048, retries=1)


def config(**settings: Any) -> IngestConfig:
    return IngestConfig(heldout_share=0.5, files_per_batch=2, **settings)


def write_clips(folder: Path, count: int = 6) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        write_clip(folder / f"{index}.gif", index)


def write_clip(path: Path, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    write_gif(path, np.stack([np.roll(picture, step, axis=1) for step in range(8)]), 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "was ended by SIGSEGV"),
        ("exit", "ended with code 3"),
        ("hang", r"not read within 1 s \(ingest.seconds_per_file\)"),
        ("swell", r"needs more than 2048 MiB \(ingest.memory_mib_per_file\)"),
    ],
)
@pytest.mark.slow
def test_what_kills_its_process_is_tried_again_and_named(name: str, reason: str, tmp_path: Path) -> None:
    work = Worker(partial(misbehave, tmp_path), WorkerLimits(seconds=20, memory_mib=2048, retries=1))
    assert work("good") == [{"name": "good"}]  # its process is there; the next need not wait for it
    work._limits = WorkerLimits(1 if name == "hang" else 20, 2048, 1)
    with pytest.raises(Failed, match=reason):
        work(name)
    assert (tmp_path / f"{name}.tries").read_text() == "xx"
    work._limits = LIMITS
    assert work("good") == [{"name": "good"}]
    work.close()


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawn processes: a fork of the tests' server has many imports and free memory."""
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    monkeypatch.setitem(contexts, "spawn", multiprocessing.context.SpawnContext())


@pytest.mark.parametrize("name", ["clip.gif", "clip.mp4"])
@pytest.mark.usefixtures("spawned")
def test_a_decoder_without_memory_is_not_taken_for_a_damaged_file(name: str, tmp_path: Path) -> None:
    """FFmpeg and NumPy raise different errors. The limit is below what the process already uses."""
    write = write_gif if name.endswith("gif") else write_mp4
    colours = np.random.default_rng(0).integers(0, 256, (4, 27, 48, 3), dtype=np.uint8)
    write(tmp_path / name, colours.repeat(40, axis=1).repeat(40, axis=2), 8)
    read = partial(describe, tmp_path, config=config(), clip=CLIP)
    whole, short = (Worker(read, WorkerLimits(seconds=20, memory_mib=mib, retries=0)) for mib in (2048, 64))
    (row,) = whole(name)
    assert row["status"] == "ok"
    with pytest.raises(Failed, match=r"needs more than 64 MiB \(ingest.memory_mib_per_file\)"):
        short(name)
    whole.close()
    short.close()


@pytest.mark.usefixtures("spawned")
@pytest.mark.parametrize("imports", [[], ["scipy.fftpack"]])
def test_what_a_task_imports_comes_before_its_limit_of_memory(imports: list[str]) -> None:
    work = Worker(is_imported, WorkerLimits(seconds=20, memory_mib=64, retries=0), imports)
    assert work("scipy.fftpack") == bool(imports)
    work.close()


def test_an_allocation_is_found_behind_other_errors() -> None:
    def raised(cause: Exception) -> MediaError:
        try:
            try:
                raise cause
            except Exception as error:
                raise MediaError("damaged") from error
        except MediaError as error:
            return error

    assert out_of_memory(raised(MemoryError()))
    assert out_of_memory(raised(OSError(errno.ENOMEM, "Cannot allocate memory")))
    assert out_of_memory(raised(av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")))
    assert not out_of_memory(raised(OSError(errno.EACCES, "Permission denied")))


def test_what_fails_once_succeeds_when_tried_again(tmp_path: Path) -> None:
    work = Worker(partial(misbehave, tmp_path), LIMITS)
    assert work("flaky") == [{"name": "flaky"}]
    work.close()


def test_what_the_task_raises_comes_back_and_its_process_stays(tmp_path: Path) -> None:
    work = Worker(partial(misbehave, tmp_path), LIMITS)
    with pytest.raises(MobiusError, match=r"^nobody can$"):
        work("refuse")
    process = work._process
    with pytest.raises(RuntimeError, match=r"^Odd: 1 and 2$"):
        work("odd")
    assert (tmp_path / "odd.tries").read_text() == "x"
    assert work("good") == [{"name": "good"}]
    assert work._process is process
    work.close()


def test_one_bad_file_takes_no_other_with_it(tmp_path: Path) -> None:
    names = ["good", "crash", "fine", "exit", "flaky", "well"]
    columns = pa.schema([("name", pa.string())])
    done = dict(dataflow.each(partial(misbehave, tmp_path), names, columns, config(), NATIVE))
    assert set(done) == set(names)
    for name, answer in done.items():
        assert isinstance(answer, dataflow.Unread) == (name in ("crash", "exit"))
        assert name in ("crash", "exit") or answer == [{"name": name}]
    assert "SIGSEGV" in done["crash"].reason


def test_what_comes_in_any_order_is_handed_on_in_one() -> None:
    names = [f"{index:03d}" for index in range(200)]
    done = [(name, [{"source": name}]) for name in names]
    random.Random(0).shuffle(done)
    assert [rows[0]["source"] for rows in in_order(done, names)] == names


def test_hashes_are_a_set() -> None:
    there = sorted(hashlib.sha256(bytes([index])).digest() for index in range(100))
    found = pickle.loads(pickle.dumps(Hashes(there)))
    assert len(found) == 100
    assert all(one.hex() in found for one in there)
    assert not any(hashlib.sha256(bytes([index])).hexdigest() in found for index in range(100, 200))
    assert "00" * 32 not in Hashes([])


def read(folder: Path, work: Path, **settings: Any) -> pd.DataFrame:
    return ingested(folder, config(**settings), CLIP, work)


def decoded(caplog: pytest.LogCaptureFixture) -> str:
    said = [record.getMessage() for record in caplog.records if "known by their bytes" in record.getMessage()]
    caplog.clear()
    return said[-1]


def test_only_new_and_changed_sources_are_decoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_clips(tmp_path / "clips")
    first = read(tmp_path / "clips", tmp_path / "work")
    assert decoded(caplog).startswith("0 of 6")
    pd.testing.assert_frame_equal(read(tmp_path / "clips", tmp_path / "work"), first)
    assert decoded(caplog).startswith("6 of 6")

    (tmp_path / "clips/0.gif").rename(tmp_path / "clips/renamed.gif")
    write_clip(tmp_path / "clips/1.gif", 201)
    second = read(tmp_path / "clips", tmp_path / "work").set_index("path")
    assert decoded(caplog).startswith("5 of 6")
    assert second.loc["renamed.gif", "clip_id"] == first.set_index("path").loc["0.gif", "clip_id"]
    assert second.loc["1.gif", "clip_id"] != first.set_index("path").loc["1.gif", "clip_id"]


def test_other_settings_are_measured_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_clips(tmp_path / "clips")
    read(tmp_path / "clips", tmp_path / "work")
    cut = read(tmp_path / "clips", tmp_path / "work", windows={"length_s": 0.5, "stride_s": 0.5})
    assert decoded(caplog).startswith("0 of 6")
    assert len(cut) == 12
    assert not cut["path"].duplicated().any()
    pd.testing.assert_frame_equal(
        read(tmp_path / "clips", tmp_path / "work", windows={"length_s": 0.5, "stride_s": 0.5}), cut
    )
    assert decoded(caplog).startswith("6 of 6")


def test_what_cannot_be_read_is_tried_the_next_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_clips(tmp_path / "clips", 2)
    (tmp_path / "clips/bad.mp4").write_bytes(b"")
    for expected in ("0 of 3", "2 of 3"):
        table = read(tmp_path / "clips", tmp_path / "work").set_index("path")
        assert decoded(caplog).startswith(expected)
        assert table.loc["bad.mp4", "status"] == "rejected"


@pytest.mark.parametrize("damage", [lambda data: b"no database", lambda data: data[: len(data) // 2]])
def test_what_is_known_is_made_again_if_it_is_damaged(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_clips(tmp_path / "clips")
    first = read(tmp_path / "clips", tmp_path / "work")
    (kept,) = (tmp_path / "work").glob("*.sqlite")
    kept.write_bytes(damage(kept.read_bytes()))
    caplog.clear()
    pd.testing.assert_frame_equal(read(tmp_path / "clips", tmp_path / "work"), first)
    assert "It is replaced, and all sources are decoded again" in caplog.text
    assert decoded(caplog).startswith("0 of 6")
    read(tmp_path / "clips", tmp_path / "work")
    assert decoded(caplog).startswith("6 of 6")


def test_a_changed_row_of_what_is_known_is_decoded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_clips(tmp_path / "clips")
    first = read(tmp_path / "clips", tmp_path / "work")
    (kept,) = (tmp_path / "work").glob("*.sqlite")
    with closing(sqlite3.connect(kept)) as database, database:
        ((sha256, rows),) = database.execute("SELECT sha256, rows FROM sources LIMIT 1")
        other = bytearray(rows)
        other[len(rows) // 2] ^= 1
        database.execute("UPDATE sources SET rows = ? WHERE sha256 = ?", [bytes(other), sha256])
    pd.testing.assert_frame_equal(read(tmp_path / "clips", tmp_path / "work"), first)
    assert decoded(caplog).startswith("5 of 6")


def test_a_database_of_something_else_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_clips(tmp_path / "clips")
    first = read(tmp_path / "clips", tmp_path / "work")
    (kept,) = (tmp_path / "work").glob("*.sqlite")
    kept.unlink()
    with closing(sqlite3.connect(kept)) as database, database:
        database.execute("CREATE TABLE sources (other INTEGER)")
    pd.testing.assert_frame_equal(read(tmp_path / "clips", tmp_path / "work"), first)
    assert "It is replaced, and all sources are decoded again" in caplog.text


ON_AN_ENGINE = """
    import sys
    from pathlib import Path
    from mobius_pipeline.ingest.config import IngestConfig
    from mobius_pipeline.ingest.table import tabulate
    from mobius_pipeline.media.clip_format import ClipFormat
    from mobius_pipeline.runtime.daft_runner import EngineConfig

    if __name__ == "__main__":
        engine, folder = sys.argv[1], Path(sys.argv[2])
        clip = ClipFormat(frames=4, height=16, width=16, fps=8)
        ingest = IngestConfig(heldout_share=0.5, files_per_batch=2)
        tabulate(folder / "clips", ingest, clip, folder / engine, EngineConfig(name=engine))
"""


def run_script(text: str, folder: Path, engine: str) -> "subprocess.CompletedProcess[str]":
    (folder / "script.py").write_text(textwrap.dedent(text))
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(folder / "script.py"), engine, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.ray
def test_both_engines_give_the_same_rows(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    (tmp_path / "clips/bad.mp4").write_text("no video")
    for engine in ("native", "ray"):
        done = run_script(ON_AN_ENGINE, tmp_path, engine)
        assert done.returncode == 0, done.stderr[-3000:]
    native, ray = (pd.read_parquet(tmp_path / engine / "clips.parquet") for engine in ("native", "ray"))
    assert len(native) == 7
    pd.testing.assert_frame_equal(native, ray)


def test_a_reader_that_cannot_start_is_no_fault_of_the_files(tmp_path: Path) -> None:
    """A script without the guard that Python's `spawn` requires: its readers would run it again."""
    write_clips(tmp_path / "clips", 2)
    done = run_script(ON_AN_ENGINE.replace('if __name__ == "__main__":', "if True:"), tmp_path, "native")
    assert done.returncode == 1
    assert "No process for reading files could be started: " in done.stderr
    assert "if __name__ == '__main__':" in done.stderr
    assert not (tmp_path / "native/clips.parquet").exists()


def test_a_second_run_is_refused_and_reported_of_the_first(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "lock", "The table"),
        pytest.raises(MobiusError, match=rf"The table is being written by process {os.getpid()} on"),
        only_writer(tmp_path / "lock", "The table"),
    ):
        pass
    with only_writer(tmp_path / "lock", "The table"):
        pass
