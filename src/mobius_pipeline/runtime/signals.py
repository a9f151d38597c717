"""Ctrl-C and SIGTERM as exceptions, raised where running work can end cleanly."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from types import FrameType

import psutil

_SHELLS = frozenset({"sh", "ash", "bash", "dash", "fish", "ksh", "zsh"})  # that may run a command
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Terminated(SystemExit):
    """SIGTERM as an exception, so that blocks unwind; exit status 143."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM within the block, in the main thread; a second SIGTERM is ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # do not interrupt the cleanup
        raise Terminated(143)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None], numbers: Iterable[int]) -> Iterator[None]:
    """Handle these signals with `handler` within the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous or signal.SIG_DFL)


class _Noting:
    """A handler that records the signal and raises nothing."""

    came: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = number


@contextmanager
def signals_noted() -> Iterator[None]:
    """Let no Ctrl-C or SIGTERM interrupt the block, however many come; `noted_signal` returns the last."""
    with _handled_by(_Noting(), _STOPPING):
        yield


def noted_signal() -> int | None:
    """Return the last signal that came within `signals_noted`, if any."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler.came if isinstance(handler, _Noting) else None


def sigterm_unwinds() -> None:
    """Unless SIGTERM has a handler, let it terminate this process's children and raise `Terminated`.

    Blocks then remove what they have partly written. A second SIGTERM is ignored.
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
    """Send this process SIGTERM when its orchestrator (DVC or Airflow) ends, even if that is killed.

    If the orchestrator has already ended, the parent is a process that adopts orphans: `init`, or, for a
    stage of DVC, a process of another process group. Airflow starts each task in a separate process group.
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
    """Start processes within the block that never receive Ctrl-C, which a terminal sends to all.

    This process receives it at the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """In a process of `multiprocessing`, exit at once when its parent ends, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)  # whatever the main thread does

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


def _starter(started: Callable[[psutil.Process], bool]) -> psutil.Process | None:
    """Return the process that `started` this one, maybe through a shell; None if it has ended."""
    try:
        process = psutil.Process().parent()
        while process is not None and process.name() in _SHELLS:
            process = process.parent()
        return process if process is not None and started(process) else None
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


@contextmanager
def signals_wait() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block; a second one takes effect at once.

    A signal that the process ignores (a shell's background jobs ignore Ctrl-C) stays ignored. Signals never
    interrupt threads other than the main one, so there is nothing to do.
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
