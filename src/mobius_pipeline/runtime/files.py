"""Files that are whole or absent: hashed, written beside their place and renamed, checked when read."""

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

from mobius_pipeline.runtime.errors import MobiusError

OUTSIDE = r"(^|/)\.\.(/|$)|^/|\x00"  # what no relative path of a file inside a folder matches
T = TypeVar("T")


def _inside(path: str) -> str:
    if re.search(OUTSIDE, path):
        raise ValueError(f"{path!r} leads out of its folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]  # a relative path of a file in a folder

_WORKING_DIRECTORY, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2(2)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Hex SHA-256 over the relative names and contents of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({str(path.relative_to(folder)): sha256(path) for path in files})


def sync(path: Path) -> None:
    """Flush a file's or a folder's entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it takes its place, synced, if the block succeeds."""
    partial = _beside(target, "partial")
    try:
        yield partial
        sync(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)  # on a full disk, what is half written would be in the way


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, beside its place and renamed after fsync."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def unusable(path: Path | str, what: str, remedy: str) -> MobiusError:
    """The error of a file of the project's own that is damaged: what is wrong, and what makes it again."""
    return MobiusError(f"{path} cannot be used: {what}. {remedy}")


def read_document(path: Path, kind: type[T], remedy: str) -> T:
    """Read a JSON file of the project's own.

    Args:
        path: The file.
        kind: The type that it must hold, as pydantic checks it.
        remedy: What makes the file again, as a sentence with the command.

    Raises:
        MobiusError: If it is missing, no JSON or of another type: the file, what is wrong, and the remedy.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except FileNotFoundError as error:
        raise MobiusError(f"There is no {path}. {remedy}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise unusable(path, f"{place}: {first['msg']}", remedy) from error
    except (OSError, ValueError, RecursionError) as error:  # undecodable, no JSON, or nested without end
        raise unusable(path, str(error), remedy) from error


def move_folder(source: Path, target: Path) -> None:
    """Put the folder `source` in place of `target`; on another file system it is copied beside it first.

    Killed at any instant, it leaves the earlier folder or the new one in place, if the file system can swap
    two folders. If it cannot, the earlier one has the name `.<name>.old` for an instant. If it fails,
    `source` and `target` are as before and nothing else is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_beside(target, "old", "partial")
    beside, old = _beside(target, "partial"), _beside(target, "old")
    try:
        try:
            source.rename(beside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copytree(source, beside, symlinks=True)
        if not target.exists():
            beside.rename(target)
        elif not _exchanged(beside, target):
            target.rename(old)
            beside.rename(target)
    except BaseException:
        if beside.exists() and not source.exists():
            beside.rename(source)
        _remove_beside(target, "old", "partial")
        raise
    shutil.rmtree(source, ignore_errors=True)
    _remove_beside(target, "old", "partial")


def remove_leftovers(target: Path) -> list[Path]:
    """Remove what writing `target` has left beside it when it was killed; nobody may be writing it now.

    What stood there before comes back, where the new one had not yet taken its place.

    Returns:
        What was removed.
    """
    return _remove_beside(target, "old", "partial", "filling")


def _remove_beside(target: Path, *ends: str) -> list[Path]:
    if (old := _beside(target, "old")).exists() and not target.exists():
        old.rename(target)
    found = [path for path in (_beside(target, end) for end in ends) if path.exists()]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    return found


def _beside(target: Path, end: str) -> Path:
    return target.with_name(f".{target.name}.{end}")


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two paths in one step; return whether the system and the file system can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = (os.fsencode(one), os.fsencode(other))
    return rename is not None and not rename(
        _WORKING_DIRECTORY, names[0], _WORKING_DIRECTORY, names[1], _EXCHANGE
    )


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place if the block succeeds, and goes if not."""
    partial = _beside(target, "filling")
    remove_leftovers(target)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.rglob("*"):
            sync(path)
        move_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk, what is half written would be in the way
