"""Scratch folders: files and folders are written beside their target, under a lock, and then moved.

.<name>.partial/<name>        the file or folder that is being written
                <name>.lock   locked by the process that writes; free once that has ended, however it ended
                <name>.old    the old target during a swap, if the file system cannot swap two folders
"""

import atexit
import fcntl
import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import psutil
from rich.filesize import decimal

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.signals import signals_wait

log = logging.getLogger(__name__)

_END = ".partial"
_SHORT_WAITS, _SHORT_S = 20, 0.05
SCRATCHES = f".*{_END}"  # matches the names of scratch folders
_unpublished: dict[Path, ExitStack] = {}


def scratch_of(target: Path) -> Path:
    """Return the scratch folder of `target`, beside it."""
    return target.with_name(f".{target.name}{_END}")


def replaced(target: Path) -> Path:
    """Return the path in the scratch folder that holds the old `target` during a swap."""
    return scratch_of(target) / f"{target.name}.old"


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield a free path in the scratch folder of `target`; the folder is removed after the block.

    If another process or thread writes `target`, wait until it has finished.
    """
    with _locked(target):
        _clear(target)
        try:
            yield scratch_of(target) / target.name
        finally:
            with signals_wait(), suppress(OSError):  # the next run removes or reports leftovers
                _clear(target)
                _release(target)


def unpublished(target: Path) -> Path:
    """Return a free path in the scratch folder of `target`, for files that are published (moved) later.

    This process owns it until `discard_unpublished` or its exit, which remove what was not published.
    """
    if target in _unpublished:
        _unpublished.pop(target).close()
    _unpublished[target] = ExitStack()
    return _unpublished[target].enter_context(scratch(target))


@atexit.register
def discard_unpublished() -> None:
    """Remove what this process has written and not published."""
    while _unpublished:
        _unpublished.popitem()[1].close()


def remove_leftovers(folder: Path) -> None:
    """Remove a scratch folder whose process has ended; put the old target back if the target is missing.

    If it is unknown whether a process writes there, log its size and the command that removes it.
    """
    target = folder.with_name(folder.name.removeprefix(".").removesuffix(_END))
    try:
        with _lock_of(target).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(lock, _lock_of(target)):
                return  # its process has just ended and removed it
            size = decimal(_bytes_in(folder))
            _clear(target)
            _release(target)
        log.info("Removed %s (%s), left by a stopped run.", folder, size)
    except BlockingIOError:
        return  # its process is alive
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()  # empty: its process ended before it took the lock
        taken = isinstance(error, FileNotFoundError) and _lock_of(target).exists()  # by now
        if os.path.lexists(folder) and not taken:
            log.warning(
                "%s (%s) may be left by a stopped run; it is not known whether a process writes there (%s). "
                "If none does, remove it: rm -r %s",
                folder,
                decimal(_bytes_in(folder)),
                error.strerror,
                shlex.quote(str(folder)),
            )


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock_of(target: Path) -> Path:
    return scratch_of(target) / f"{target.name}.lock"


def _locked(target: Path) -> TextIO:
    """Create the scratch folder of `target`, and take its lock once the present holder has ended."""
    folder, path = scratch_of(target), _lock_of(target)
    while True:
        if folder.is_file():  # from an earlier release
            folder.unlink()
        with suppress(FileExistsError):  # `exist_ok` fails if its owner removes the folder meanwhile
            folder.mkdir(parents=True)
        try:
            lock = path.open("a")
        except FileNotFoundError:  # its owner, or `remove_leftovers`, removed the folder meanwhile
            continue
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            raise
        with suppress(OSError):  # without locks in the file system, no process removes it
            _wait(lock, target, path)
        if _is_at(lock, path):
            return lock


def _wait(lock: TextIO, target: Path, path: Path) -> None:
    """Take a lock once its holder has ended.

    Raises:
        MobiusError: If an ancestor of this process holds it: the two might wait for each other.
    """
    for _ in range(_SHORT_WAITS):  # other processes take the lock for an instant to test it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_SHORT_S)
        else:
            return
    _refuse_to_wait_for_ancestors(target, path)
    fcntl.flock(lock, fcntl.LOCK_EX)


def _refuse_to_wait_for_ancestors(target: Path, lock: Path) -> None:
    """Raise an error if an ancestor of this process has the lock."""
    place = str(lock.resolve())
    for ancestor in psutil.Process().parents():
        with suppress(psutil.Error):
            if place in (file.path for file in ancestor.open_files()):
                raise MobiusError(
                    f"{target} is being written by process {ancestor.pid}, which started this one. A script "
                    "that starts processes needs `if __name__ == '__main__':` around its calls."
                )


def _is_at(lock: TextIO, path: Path) -> bool:
    """Return whether an open lock file is the one at `path`, and not a removed one."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _clear(target: Path) -> None:
    """Empty the scratch folder except for its lock; put the old target back if the target is missing."""
    if (old := replaced(target)).exists() and not target.exists():
        old.rename(target)
    for path in scratch_of(target).iterdir():
        if path != _lock_of(target):
            remove(path)


def _release(target: Path) -> None:
    """Remove the lock and the empty folder, which another process may take in between."""
    _lock_of(target).unlink()
    with suppress(OSError):
        scratch_of(target).rmdir()


def _bytes_in(folder: Path) -> int:
    """Return the size of the files in a folder, in which others may write meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(root) / name).lstat().st_size
    return total
