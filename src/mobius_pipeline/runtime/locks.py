"""Lock files for one writer at a time; a lock ends with its process, however that ends."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError


@contextmanager
def only_writer(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, which names its holder, while the block runs.

    Raises:
        MobiusError: If another process holds it; the message names its id and machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise MobiusError(
                f"{what} is being written by {holder}. Wait until it has ended, or end it."
            ) from error
        file.seek(0)
        file.truncate()
        with suppress(OSError):  # on a full disk the lock is held, but without a name
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until the lock file `path` is free, and hold it while the block runs."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
