"""Copy folders without copying their large files, such as the 87 MB of the tests' text encoder."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGE = 2**24  # bytes

_linked: dict[Path, os.stat_result] = {}  # originals, as they were when they were linked


def copied(source: Path, target: Path, *, ignore: Callable[[Any, list[str]], Any] | None = None) -> Path:
    """Copy a folder; a file of `LARGE` bytes or more becomes a hard link.

    A test that changes such a file replaces it and does not write into it, which `written_into` finds.
    """
    return Path(shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=_copy))


def _copy(source: str, target: str) -> None:
    original = Path(source)
    if original.is_symlink() or original.stat().st_size < LARGE:
        shutil.copy2(source, target, follow_symlinks=False)
    else:
        os.link(source, target)
        _linked.setdefault(original, original.stat())


def written_into() -> list[Path]:
    """Return the originals whose bytes were changed through a link; one that was replaced does not count."""
    return [file for file, before in _linked.items() if _is_changed(file, before)]


def _is_changed(file: Path, before: os.stat_result) -> bool:
    try:
        now = file.stat()
    except OSError:  # removed, or this process is another user for the time of a test
        return False
    return now.st_ino == before.st_ino and now.st_mtime_ns != before.st_mtime_ns
