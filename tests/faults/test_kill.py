"""A training that is killed repeatedly ends like one that was not."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import victim

import tiny
from copies import copied
from mobius_pipeline.models.variant import Mode

SAVING_KILLS, OTHER_KILLS = 24, 16  # of each mode
LANES = 2  # trainings at a time
MOST_RUNS = 100  # of a lane
EXIT_STATUSES = Lock()  # a process that starts reads the others' exit status, which can be read only once
Start = Callable[[Path, int | None], BaseProcess]  # of a training in a folder, with its deadly call


@pytest.fixture(scope="module")
def small_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with a UNet of one level: the same kinds of files and state, at half the compute."""
    folder = copied(tiny_base, tmp_path_factory.mktemp("small") / "base")
    shutil.rmtree(folder / "unet")
    blocks = {f"{way}_block_types": (f"CrossAttn{way.title()}Block2D",) for way in ("down", "up")}
    tiny.unet(block_out_channels=(16,), attention_head_dim=(2,), **blocks).save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="module", params=["serial", "parallel"])
def start(request: pytest.FixtureRequest, processes: Any, tiny_store: Path, small_base: Path) -> Start:
    mode: Mode = request.param

    def begin(folder: Path, deadly: int | None) -> BaseProcess:
        folder.mkdir(exist_ok=True)
        process: BaseProcess = processes.Process(
            target=victim.train, args=(mode, tiny_store, small_base, folder, deadly)
        )
        with EXIT_STATUSES:
            process.start()
        return process

    return begin


def exit_status(process: BaseProcess) -> int | None:
    """Wait for a process to end while other threads may start some."""
    wait([process.sentinel])
    with EXIT_STATUSES:
        return process.exitcode


@dataclass(frozen=True)
class Straight:
    """Result and duration of a training that is not killed."""

    hashes: dict[str, str]
    calls: int
    seconds: float


@pytest.fixture(scope="module")
def straight(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder = tmp_path_factory.mktemp("straight")
    began = time.monotonic()
    process = start(folder, None)
    assert exit_status(process) == 0
    result = json.loads((folder / "result.json").read_text())
    return Straight(result["hashes"], result["calls"], time.monotonic() - began)


def kill_and_go_on(
    run: Callable[[Path], BaseProcess],
    run_to_the_end: Callable[[Path], BaseProcess],
    folders: Iterator[Path],
    kills: int,
) -> list[Path]:
    """Run in a folder until a run completes, then in the next folder, until `kills` runs were killed.

    The last run is not killed: on a busy machine, none may complete before its kill.
    """
    killed, ended, folder = 0, [], next(folders)
    for _ in range(MOST_RUNS):
        status = exit_status(run(folder))
        assert status in (0, -signal.SIGKILL)
        if status == 0:
            ended.append(folder)
            folder = next(folders)
            continue
        killed += 1
        if killed == kills:
            assert exit_status(run_to_the_end(folder)) == 0
            return [*ended, folder]
    pytest.fail(f"{killed} kills in {MOST_RUNS} runs")


def check(
    run: Callable[[Path, random.Random], BaseProcess], start: Start, kills: int, straight: Straight, at: Path
) -> None:
    """Kill trainings below `at`, two at a time, and check the results of those that complete."""

    def lane(number: int) -> list[Path]:
        draw = random.Random(number)
        folders = (at / f"lane-{number}-{ends}" for ends in count())
        return kill_and_go_on(
            lambda folder: run(folder, draw), lambda folder: start(folder, None), folders, kills // LANES
        )

    with ThreadPoolExecutor(LANES) as pool:
        for folder in chain.from_iterable(pool.map(lane, range(LANES))):
            assert json.loads((folder / "result.json").read_text())["hashes"] == straight.hashes


def test_killed_at_a_call_into_the_system_while_saving(
    start: Start, straight: Straight, tmp_path: Path
) -> None:
    def run(folder: Path, draw: random.Random) -> BaseProcess:
        # A run that goes on has fewer calls left: where the deadly one lies beyond them, it gets to its end.
        return start(folder, draw.randint(1, straight.calls))

    check(run, start, SAVING_KILLS, straight, tmp_path)


def test_killed_at_any_moment(start: Start, straight: Straight, tmp_path: Path) -> None:
    def run(folder: Path, draw: random.Random) -> BaseProcess:
        process = start(folder, None)
        wait([process.sentinel], draw.uniform(0, straight.seconds))
        process.kill()
        return process

    check(run, start, OTHER_KILLS, straight, tmp_path)
