"""Work on untrusted files in processes that may crash, hang or run out of memory without ending the run."""

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
    """Limits for one task.

    Attributes:
        seconds: Time limit, s.
        memory_mib: Memory limit of the process, MiB.
        retries: Number of retries if the process dies.
        section: Section of the parameters `seconds_per_file` and `memory_mib_per_file`, named in errors.
    """

    seconds: float
    memory_mib: int
    retries: int
    section: str = "ingest"


class Failed(Exception):  # noqa: N818 (its text is a row's reason)
    """The process of a task died; the text is the reason."""


class Worker(Generic[T]):
    """Runs `task` on one argument at a time in a separate process, which is restarted if it dies."""

    def __init__(self, task: Callable[[Any], T], limits: WorkerLimits, imports: Sequence[str] = ()) -> None:
        """Prepare a worker; its process starts with the first call.

        Args:
            task: A module-level function, or a partial of one; it is pickled and sent to the process.
            limits: Limits of a call.
            imports: Modules that the task imports when it runs. They are imported before the memory limit is
                set, because the import of OpenBLAS hangs without enough memory.
        """
        self._task, self._limits, self._imports = task, limits, imports
        self._process: Any = None
        self._connection: Connection | None = None
        self._is_stopped = False

    def __call__(self, argument: Any) -> T:
        """Return the task's result.

        Raises:
            Failed: If its process crashed, hung or ran out of memory in every attempt.
            Exception: An error that the task raised.
            MobiusError: If no process can be started. This is not the fault of a file.
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
            # Of 2800 files with a few wrong bytes, one made FFmpeg request more than it ever allocates.
            raise Failed(
                f"needs more than {self._limits.memory_mib} MiB "
                f"({self._limits.section}.memory_mib_per_file), or is damaged"
            )
        if isinstance(result, _Raised):
            raise result.error
        return result  # type: ignore[no-any-return]

    def _start(self) -> Connection:
        # Spawned: the caller has threads, and a forked process with open decoders can hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (self._task, self._imports, theirs, self._limits.memory_mib * _MIB)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with sigint_blocked():  # the caller handles Ctrl-C, and then closes the worker
            self._process.start()
        theirs.close()
        self._connection = ours
        try:
            ours.recv()  # "ready": starting takes seconds, which do not count for the file
        except (EOFError, OSError) as error:
            section = self._limits.section
            raise MobiusError(
                f"No process for reading files could be started: {self._how_it_ended()}. Its output is "
                f"above. Check {section}.memory_mib_per_file in conf/base/parameters_{section}.yml; a "
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
        """Kill the process from another thread; the thread that waits for its answer gets `Failed`."""
        self._is_stopped = True
        if self._process and self._process.pid:  # `_once` handles a process that is being started
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
    """A pool of workers: one `Worker` for each concurrent call."""

    def __init__(self, task: Callable[[Any], T], limits: WorkerLimits, imports: Sequence[str] = ()) -> None:
        """Prepare a pool; see `Worker`."""
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
        """Kill all processes, also while they work."""
        for work in self._all:
            work.stop()


class _NoMemory:
    """Sent in place of a result if memory could not be allocated."""


@dataclass(frozen=True)
class _Raised:
    """An error that is sent in place of a result."""

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
    """Return the error, or a RuntimeError with its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # trusted: pickled in this line
    except Exception:  # a library's class may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _limit_memory(memory: int) -> None:
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
