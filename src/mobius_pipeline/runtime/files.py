"""Write files and folders atomically, hash them, and validate JSON files when they are read."""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from mobius_pipeline.runtime.config import first_reason
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.remote_files import Readable
from mobius_pipeline.runtime.scratch import remove, replaced, scratch
from mobius_pipeline.runtime.signals import signals_wait

OUTSIDE = r"(^|/)\.\.(/|$)|^/|\x00"  # matches paths that may lead out of their folder
T = TypeVar("T")


def _inside(path: str) -> str:
    if re.search(OUTSIDE, path):
        raise ValueError(f"{path!r} leads out of its folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]  # a relative path of a file in a folder

_WORKING_DIRECTORY, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2(2)


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return the hex SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the hex SHA-256 over the relative names and contents of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({str(path.relative_to(folder)): sha256(path) for path in files})


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path to write a file to; if the block succeeds, the file is synced and replaces `target`."""
    with scratch(target) as partial:
        yield partial
        sync(partial)
        partial.replace(target)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON, renamed to `path` after fsync; with `indent` None in one line."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=indent, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Readable) -> Any:
    """Read a JSON file."""
    with path.open("rb") as file:
        return json.loads(file.read().decode("utf-8"))


def unusable(path: Readable | str, what: str, remedy: str) -> MobiusError:
    """Return the error for a damaged file of the project: what is wrong, and how to create it again."""
    return MobiusError(f"{path} cannot be used: {what}. {remedy}")


def read_document(path: Readable, kind: type[T], remedy: str) -> T:
    """Read a JSON file that the project has written, and validate it.

    Args:
        path: The file.
        kind: The type that it must hold, checked by pydantic.
        remedy: A sentence with the command that creates the file again.

    Raises:
        MobiusError: If it is missing, not JSON or of another type, with the file, the cause and the remedy.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except MobiusError:  # from a remote file: it says why it cannot be read
        raise
    except FileNotFoundError as error:
        raise MobiusError(f"There is no {path}. {remedy}") from error
    except ValidationError as error:
        raise unusable(path, first_reason(error), remedy) from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise unusable(path, str(error), remedy) from error


def move_folder(source: Path, target: Path) -> None:
    """Replace the folder `target` by `source`; from another file system, `source` is copied beside it first.

    If the process is killed, `target` is the old folder or the new one, provided that the file system can
    swap two folders. Otherwise `target` is missing for an instant (see `scratch`). If the move fails,
    `source` and `target` are unchanged and nothing else is left.
    """
    with scratch(target) as partial:
        try:
            _put(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copytree(source, partial, symlinks=True)
            _put(partial, target)
        remove(source)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` if the block succeeds, and is removed if not."""
    with scratch(target) as partial:
        partial.mkdir()
        yield partial
        for path in partial.rglob("*"):
            sync(path)
        _put(partial, target)


def _put(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; the old target moves to `folder`, or into the scratch folder."""
    with signals_wait():
        if not target.exists():
            folder.rename(target)
        elif not _exchanged(folder, target):
            old = replaced(target)
            target.rename(old)
            try:
                folder.rename(target)
            except OSError:
                old.rename(target)
                raise


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two paths atomically; return False if the system or the file system cannot.

    Raises:
        OSError: If they are on different file systems.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    done = not rename(_WORKING_DIRECTORY, names[0], _WORKING_DIRECTORY, names[1], _EXCHANGE)
    if not done and (number := ctypes.get_errno()) == errno.EXDEV:
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    return done
