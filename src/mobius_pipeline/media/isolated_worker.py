"""Work on untrusted files in a process that may crash, hang or swell without taking the run with it."""

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from mobius_pipeline.media.errors import out_of_memory
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.signals import end_with_parent, sigint_blocked

T = TypeVar("T")

_MIB = 1 << 20


@dataclass(frozen=True)
class WorkerLimits:
    """Of one piece of work: seconds, MiB of its process, and how often it is tried again.

    `section` is that of the parameters `seconds_per_file` and `memory_mib_per_file`, for errors to name.
    """

    seconds: float
    memory_mib: int
    retries: int
    section: str = "ingest"


class Failed(Exception):  # noqa: N818 (its text is a row's reason)
    """The process of a piece of work died; the text is the reason."""


class Worker(Generic[T]):
    """Runs `task` on one argument after the other in a process of its own, which is restarted if it dies."""

    def __init__(self, task: Callable[[Any], T], limits: WorkerLimits, imports: Sequence[str] = ()) -> None:
        """`task` is sent to the process: a function of a module, or a partial of one.

        `imports` are the modules that the task imports when it runs. They come before the limit of memory:
        OpenBLAS never ends its import where it is short of it.
        """
        self._task, self._limits, self._imports = task, limits, imports
        self._process: Any = None
        self._connection: Connection | None = None
        self._is_stopped = False

    def __call__(self, argument: Any) -> T:
        """Return the task's result.

        Raises:
            Failed: If its process crashed, hung or ran out of memory, each time that it was tried.
            Exception: What the task raised.
            MobiusError: If no process can be started, which is not the fault of a file.
        """
        for left in reversed(range(self._limits.retries + 1)):
            try:
                return self._once(argument)
            except Failed:
                self.close()
                if not left or self._is_stopped:
                    raise
        raise AssertionError

    def _once(self, argument: Any) -> T:
        try:
            connection = self._connection or self._start()
            if self._is_stopped:
                raise Failed("stopped")
            connection.send(argument)
            if not connection.poll(self._limits.seconds):
                raise Failed(
                    f"not read within {self._limits.seconds:g} s ({self._limits.section}.seconds_per_file)"
                )
            result = connection.recv()
        except (EOFError, OSError):
            raise Failed(self._how_it_ended()) from None
        if isinstance(result, _NoMemory):
            # Of 2800 files with a few wrong bytes one had FFmpeg ask for more than it ever allocates.
            raise Failed(
                f"needs more than {self._limits.memory_mib} MiB "
                f"({self._limits.section}.memory_mib_per_file), or is damaged"
            )
        if isinstance(result, _Raised):
            raise result.error
        return result  # type: ignore[no-any-return]

    def _start(self) -> Connection:
        # Spawned: the caller has threads, and a copy of a process with open decoders can hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (self._task, self._imports, theirs, self._limits.memory_mib * _MIB)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with sigint_blocked():  # Ctrl-C is the caller's, who then closes
            self._process.start()
        theirs.close()
        self._connection = ours
        try:
            ours.recv()  # that it is ready: starting takes seconds, which are not the file's
        except (EOFError, OSError) as error:
            section = self._limits.section
            raise MobiusError(
                f"No process that reads files can be started: {self._how_it_ended()}. What it printed is "
                f"above. Look at {section}.memory_mib_per_file in conf/base/parameters_{section}.yml; a "
                "script that reads clips needs `if __name__ == '__main__':` around its calls."
            ) from error
        return ours

    def _how_it_ended(self) -> str:
        self._process.join(10)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the process that read it was ended by {signal.Signals(-code).name}"
        return f"the process that read it ended with code {code}"

    def stop(self) -> None:
        """From another thread: kill the process, and have whoever waits for its answer get `Failed`."""
        self._is_stopped = True
        if self._process and self._process.pid:  # of one that is being started, `_once` takes care
            self._process.kill()

    def close(self) -> None:
        """End the process."""
        if self._connection:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._connection = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class Workers(Generic[T]):
    """A `Worker` for each thread that calls at a time."""

    def __init__(self, task: Callable[[Any], T], limits: WorkerLimits, imports: Sequence[str] = ()) -> None:
        """As a worker's."""
        self._new = partial(Worker, task, limits, imports)
        self._idle: SimpleQueue[Worker[T]] = SimpleQueue()
        self._all: list[Worker[T]] = []

    def __call__(self, argument: Any) -> T:
        """Return the task's result, or raise what a worker raises."""
        try:
            work = self._idle.get_nowait()
        except Empty:
            work = self._new()
            self._all.append(work)
        try:
            return work(argument)
        finally:
            self._idle.put(work)

    def stop(self) -> None:
        """End all processes, whatever they are at."""
        for work in self._all:
            work.stop()


class _NoMemory:
    """Sent in place of a result."""


@dataclass(frozen=True)
class _Raised:
    """Sent in place of a result."""

    error: Exception


def _serve(task: Callable[[str], Any], imports: Sequence[str], connection: Connection, memory: int) -> None:
    end_with_parent()
    for name in imports:
        import_module(name)
    _limit_memory(memory)
    connection.send("ready")
    while True:
        try:
            argument = connection.recv()
        except EOFError:
            return
        try:
            result = task(argument)
        except Exception as error:
            result = _NoMemory() if out_of_memory(error) else _Raised(sendable(error))
        connection.send(result)


def sendable(error: Exception) -> Exception:
    """The error itself, or its words where it cannot be made again in another process."""
    try:
        pickle.loads(pickle.dumps(error))  # our own bytes
    except Exception:  # whatever a library's class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _limit_memory(memory: int) -> None:
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
