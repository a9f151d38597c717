"""Signals wait for the end of a block."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from mobius_pipeline.runtime.signals import signals_wait


@pytest.fixture
def ignoring() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(times: int, done: list[str]) -> None:
    """Work that Ctrl-C interrupts."""
    with signals_wait():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        done.append("the rest")


def test_the_block_ends_first() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(1, done)
    assert done == ["the rest"]


def test_a_second_one_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(2, done)
    assert not done


def test_the_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals_wait():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("ignoring")
def test_what_is_ignored_stays_ignored() -> None:
    done: list[str] = []
    interrupted(2, done)
    assert done == ["the rest"]


TASK = """if True:
    import time
    from mobius_pipeline.runtime.signals import end_with_orchestrator, sigterm_unwinds
    sigterm_unwinds()
    end_with_orchestrator()
    print("at work", flush=True)
    time.sleep(600)
"""
RUNNER = """if True:
    import os, subprocess, sys
    words = ["bash", "-c", 'exec "$0" -c "$1"', sys.executable, sys.argv[1]]
    task = subprocess.Popen(words, start_new_session=True, env={**os.environ, "AIRFLOW_CTX_TASK_ID": "train"})
    print(task.pid, flush=True)
    task.wait()
"""


def test_a_task_ends_with_airflow() -> None:
    """Airflow starts a task in a separate session, which signals to Airflow's processes do not reach."""
    words = [sys.executable, "-c", RUNNER, TASK]
    with subprocess.Popen(words, env=os.environ, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        task = psutil.Process(int(runner.stdout.readline()))
        assert runner.stdout.readline() == "at work\n"
        runner.kill()
    psutil.wait_procs([task], timeout=60)
    assert not task.is_running()
