"""Several processes encode one store: they give the same bytes and reports, and all of them end."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deadly
import encoder
import failing
import pandas as pd
import psutil
import pytest
from test_encode import encoded, ended, files, shards

import tiny
from copies import copied
from mobius_pipeline.latents.encoder import Wanted
from mobius_pipeline.latents.processes import encode_on
from mobius_pipeline.runtime.errors import MobiusError

pytestmark = pytest.mark.slow

CLIPS = 11  # the last shard of two has one
Encode = Callable[..., list[str]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, sample_table: pd.DataFrame) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "manifest.parquet"
    sample_table[:CLIPS].to_parquet(path)
    return path


@pytest.fixture(scope="module")
def encode(processes: Any, table: Path, sample_clips: Path, tiny_base: Path) -> Encode:
    """Function that encodes stores with faults in a folder, and returns the error of each run."""

    def encode(root: Path, runs: list[tuple[str, str]], **settings: Any) -> list[str]:
        arguments = (root, table, sample_clips, tiny_base, "native", runs, settings)
        process = processes.Process(target=encoder.encode_failing, args=arguments)
        process.start()
        ended(process)
        return [(root / f"{number}.txt").read_text() for number in range(len(runs))]

    return encode


@pytest.fixture(scope="module")
def bad(sample_table: pd.DataFrame, sample_clips: Path) -> str:
    """Two clips in the middle that cannot be encoded: one is not read, the VAE fails with the other."""
    one, two = sample_table["path"].iloc[[7, 4]]
    return failing.in_reading(one, "raise", 9) + failing.in_the_vae(sample_clips, two, "raise", 9)


@pytest.fixture(scope="module")
def alone(encode: Encode, bad: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores encoded by one process, and its errors: `bad` without the failing clips, `whole` with all."""
    root = tmp_path_factory.mktemp("alone")
    encode(root, [("bad", bad), ("whole", "")], processes=1)
    return root


@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_processes_writes_and_reports_the_same(
    count: int, encode: Encode, bad: str, alone: Path, tmp_path: Path
) -> None:
    """So does the next run, which encodes only the two clips that failed."""
    said, then = encode(tmp_path, [("store", bad), ("store", "")], processes=count)
    assert "2 clips" in said
    assert said == (alone / "0.txt").read_text()
    left = files(alone / "bad")
    assert left.items() <= files(tmp_path / "store").items()
    assert then == ""
    new = files(tmp_path / "store").keys() - left.keys()
    assert len([name for name in new if "/shard-" in name]) == 1
    assert len(encoded(tmp_path / "store")) == len(set(encoded(tmp_path / "store"))) == CLIPS


def test_more_processes_than_clips(
    processes: Any,
    alone: Path,
    sample_table: pd.DataFrame,
    sample_clips: Path,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    sample_table[:2].to_parquet(tmp_path / "table.parquet")
    arguments = (tmp_path / "store", tmp_path / "table.parquet", sample_clips, tiny_base)
    process = processes.Process(target=encoder.encode, args=arguments, kwargs={"processes": 3})
    process.start()
    ended(process)
    assert len(encoded(tmp_path / "store")) == 2
    (first,) = shards(tmp_path / "store")
    assert first in shards(alone / "whole")


def test_processes_that_are_started_after_a_while_change_nothing(
    processes: Any, table: Path, sample_clips: Path, tiny_base: Path, alone: Path, tmp_path: Path
) -> None:
    arguments = (tmp_path / "store", table, sample_clips, tiny_base)
    process = processes.Process(target=encoder.encode_measured, args=arguments)
    process.start()
    ended(process)
    assert files(tmp_path / "store") == files(alone / "whole")


def test_a_process_that_dies_is_started_again_and_what_it_always_dies_of_named(
    encode: Encode, alone: Path, sample_table: pd.DataFrame, sample_clips: Path, tmp_path: Path
) -> None:
    once, always = sample_table["path"].iloc[[2, 5]]
    deaths = failing.in_the_vae(sample_clips, once, "kill", 1)
    deaths += failing.in_the_vae(sample_clips, always, "kill", 9)
    said, then = encode(tmp_path, [("store", deaths), ("store", "")], processes=2)
    assert "1 clips" in said
    assert f"{always} (its process was killed or crashed each time)" in said
    assert then == ""
    assert len(encoded(tmp_path / "store")) == CLIPS
    tried = deadly.tried(tmp_path / "faults")
    assert sorted(map(tried.count, set(tried))) == [2, 2]


def test_an_error_of_ours_ends_all_and_keeps_its_words(
    encode: Encode, sample_table: pd.DataFrame, sample_clips: Path, tmp_path: Path
) -> None:
    refused = failing.in_the_vae(sample_clips, sample_table["path"].iloc[8], "refuse", 9)
    assert encode(tmp_path, [("store", refused)], processes=2) == ["nobody can"]


def test_processes_that_die_at_their_start_are_no_clips_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setting = failing.DyingSetting(tmp_path, tmp_path, tiny.CLIP, tiny.encode_config())
    wanted = [Wanted(name, name, "", 4, 16, 16) for name in ("one.gif", "two.gif")]
    with pytest.raises(MobiusError, match=r"started: the one on cpu \(process \d\) ended with code 3"):
        list(encode_on(["cpu", "cpu"], wanted, setting))
    assert "while it started; 1 processes are left" in caplog.text


def test_clips_of_a_process_that_dies_at_its_start_are_encoded_by_another(
    sample_table: pd.DataFrame, sample_clips: Path, tiny_base: Path, tmp_path: Path
) -> None:
    base = copied(tiny_base, tmp_path / "base")
    setting = failing.OnceDyingSetting(sample_clips, base, tiny.CLIP, tiny.encode_config())
    clips = sample_table[["clip_id", "path"]].itertuples(index=False)
    wanted = [Wanted(clip_id, path, "", 4, 16, 16) for clip_id, path in clips][:4]
    found = list(encode_on(["cpu", "cpu"], wanted, setting))
    assert sorted(one.clip_id for one in found) == sorted(one.clip_id for one in wanted)
    assert len({one.where for one in found}) == 1
    assert (base / "died").exists()


def of_session(leader: int) -> list[psutil.Process]:
    """Return the running processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):  # ended meanwhile
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_no_process_stays_behind_and_the_next_run_goes_on(
    number: signal.Signals,
    processes: Any,
    encode: Encode,
    table: Path,
    alone: Path,
    sample_table: pd.DataFrame,
    sample_clips: Path,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    """One process is in its VAE, the other one's decoder hangs, and shards are finished."""
    one, *others = sample_table["path"].iloc[7:11]  # the process that has the first takes one of the others
    lines = [failing.in_reading(other, "hang", 9) for other in others]
    faults = failing.in_the_vae(sample_clips, one, "hang", 9) + "".join(lines)
    arguments = (tmp_path, table, sample_clips, tiny_base, "native", [("store", faults)], {"processes": 2})
    running = processes.Process(target=encoder.encode_in_its_session, args=arguments)
    running.start()
    until = time.monotonic() + 120
    while len(set(deadly.tried(tmp_path / "faults"))) < 2 or len(shards(tmp_path / "store")) < 3:
        assert running.is_alive()
        assert time.monotonic() < until
        time.sleep(0.02)
    assert len(of_session(running.pid)) >= 5  # this one, two that encode, and what decodes for them
    send = os.killpg if number == signal.SIGINT else os.kill  # as a terminal does, and as others do
    send(running.pid, number)
    running.join(60)
    assert running.exitcode not in (None, 0)
    deadline = time.monotonic() + 30
    while (left := of_session(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    before = shards(tmp_path / "store")
    assert encode(tmp_path, [("store", "")], processes=1) == [""]
    assert before.items() <= shards(tmp_path / "store").items()
    assert files(tmp_path / "store") == files(alone / "whole")
