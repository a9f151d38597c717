"""Ctrl-C and SIGTERM as exceptions, raised where what is under way can end truthfully."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from types import FrameType

import psutil

_SHELLS = frozenset({"sh", "ash", "bash", "dash", "fish", "ksh", "zsh"})  # that a command is run in
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Terminated(SystemExit):
    """SIGTERM as an exception, so that blocks unwind; exit status 143."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into `Terminated` within the block, in the main thread; a second one is ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is under way is being ended: let it
        raise Terminated(143)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None], numbers: Iterable[int]) -> Iterator[None]:
    """Have `handler` take these signals within the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous or signal.SIG_DFL)


class _Noting:
    """A handler that raises nothing."""

    came: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = number


@contextmanager
def signals_noted() -> Iterator[None]:
    """Let no Ctrl-C or SIGTERM interrupt the block, however many come; `noted_signal` returns it."""
    with _handled_by(_Noting(), _STOPPING):
        yield


def noted_signal() -> int | None:
    """The last signal that came within `signals_noted`, if any did."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler.came if isinstance(handler, _Noting) else None


def sigterm_unwinds() -> None:
    """Where nobody handles SIGTERM, have it end what this process started and raise `Terminated`.

    Blocks then remove what they have half written. A second one is ignored.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _unwind)


def _unwind(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    raise Terminated(143)


def end_with_orchestrator() -> None:
    """As a stage of DVC or a task of Airflow, be sent SIGTERM when that ends: killed, it leaves this running.

    Where it has ended already, the parent is a process that takes up orphans: `init`, or, for a stage of DVC,
    one whose process group is its own. Airflow starts each task in a group of the task's own.
    """
    if "DVC_STAGE" in os.environ:
        starter = _starter(lambda process: os.getpgid(process.pid) == os.getpgrp())
    elif "AIRFLOW_CTX_TASK_ID" in os.environ:
        starter = _starter(lambda process: process.pid != 1)
    else:
        return
    if starter is None:
        os.kill(os.getpid(), signal.SIGTERM)
        return

    def watch() -> None:
        starter.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end with the orchestrator", daemon=True).start()


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Have processes that are started in the block never notice Ctrl-C, which a terminal sends to all.

    This one notices it at the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """In a process of `multiprocessing`, end at once when the one that started it ends, in whatever way."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)  # whatever the main thread is at

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


def _starter(started: Callable[[psutil.Process], bool]) -> psutil.Process | None:
    """The process that `started` this one, maybe through a shell; None if it has ended."""
    try:
        process = psutil.Process().parent()
        while process is not None and process.name() in _SHELLS:
            process = process.parent()
        return process if process is not None and started(process) else None
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect at the end of the block; a second one takes effect at once.

    A signal that the process ignores (a shell's background jobs ignore Ctrl-C) stays ignored. In a thread
    other than the main one they never interrupt, and there is nothing to do.
    """
    noted = isinstance(signal.getsignal(signal.SIGTERM), _Noting)
    if noted or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    handled = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    with _handled_by(note, handled):
        yield
    if came:
        signal.raise_signal(came[0])
