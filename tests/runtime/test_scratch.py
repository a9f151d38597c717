"""A scratch folder belongs to its process: others do not remove it, and nothing of it is left afterwards."""

import logging
import multiprocessing
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leaving import killed_while_writing
from mobius_pipeline.runtime.files import atomic_file, atomic_folder
from mobius_pipeline.runtime.scratch import remove_leftovers, scratch, scratch_of

WRITE = """
import sys
from pathlib import Path
from mobius_pipeline.runtime.files import atomic_file, atomic_folder
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.runtime.signals import sigterm_unwinds

sigterm_unwinds()
target = Path(sys.argv[2])
if sys.argv[1] == "file":
    with atomic_file(target) as partial:
        partial.write_bytes(bytes(5000))
        print("writing", flush=True)
        sys.stdin.read()
elif sys.argv[1] == "folder":
    with atomic_folder(target) as partial:
        (partial / "weights").write_bytes(bytes(5000))
        print("writing", flush=True)
        sys.stdin.read()
else:
    made = unpublished(target)
    with atomic_folder(made) as partial:
        (partial / "weights").write_bytes(bytes(5000))
    print("writing", flush=True)
    sys.stdin.read()
"""


def writing(how: str, target: Path) -> "subprocess.Popen[str]":
    """Start a process that has written half of `target`, and continues when its input ends."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, how, str(target)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("how", ["file", "folder", "unpublished"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stopped_process_leaves_nothing(how: str, number: signal.Signals, tmp_path: Path) -> None:
    process = writing(how, tmp_path / "target")
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    assert process.wait(60) == (143 if number == signal.SIGTERM else -number)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["file", "folder", "unpublished"])
def test_a_living_process_s_is_left_alone_and_a_killed_one_s_goes(how: str, tmp_path: Path) -> None:
    process = writing(how, tmp_path / "target")
    for stop in (signal.SIGSTOP, signal.SIGKILL):
        remove_leftovers(scratch_of(tmp_path / "target"))
        assert list(tmp_path.rglob("target")) + list(tmp_path.rglob("weights"))
        process.send_signal(stop)
    process.wait(60)
    remove_leftovers(scratch_of(tmp_path / "target"))
    assert not list(tmp_path.iterdir())


def test_what_is_removed_is_reported_with_its_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = killed_while_writing(tmp_path / "parallel", size=5_000_000)
    with caplog.at_level(logging.INFO):
        remove_leftovers(left)
    assert caplog.messages == [f"Removed {left} (5.0 MB), left by a stopped run."]


def test_what_names_no_owner_is_named_with_size_and_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The folder is from an earlier release, or from another program."""
    left = tmp_path / "my project/.base.partial"
    left.mkdir(parents=True)
    (left / "weights").write_bytes(bytes(3000))
    remove_leftovers(left)
    (message,) = caplog.messages
    assert f"{left} (3.0 kB)" in message
    subprocess.run(shlex.split(message.partition("remove it: ")[2]), check=True)
    assert not left.exists()


def test_an_empty_one_goes(tmp_path: Path) -> None:
    """The process was killed before it took the lock."""
    scratch_of(tmp_path / "base").mkdir()
    remove_leftovers(scratch_of(tmp_path / "base"))
    assert not list(tmp_path.iterdir())


def test_the_next_writer_finds_it_empty(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "base")
    with atomic_folder(tmp_path / "base") as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["base", "new"]


def write_in_turn(target: Path, text: str) -> None:
    for _ in range(50):
        with atomic_file(target) as partial:
            for letter in text:
                with partial.open("a") as file:
                    file.write(letter)


def test_two_processes_write_one_file_in_turn(tmp_path: Path) -> None:
    target, context = tmp_path / "run.json", multiprocessing.get_context("fork")
    texts = ["a" * 20, "b" * 20]
    processes = [context.Process(target=write_in_turn, args=(target, text)) for text in texts]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        remove_leftovers(scratch_of(target))  # never removes a folder that one of them has just created
        assert not target.exists() or target.read_text() in texts
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_two_threads_write_one_file_in_turn(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    with scratch(target):
        other = threading.Thread(target=write_in_turn, args=(target, "a"))
        other.start()
        assert not target.exists()
    other.join()
    assert target.read_text() == "a"
