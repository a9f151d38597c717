"""Copy folders without copying their large files, such as the 87 MB of the tests' text encoder."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGE = 2**24  # bytes

_links: dict[Path, tuple[Path, int]] = {}  # by link: its original, and the time of its last modification (ns)


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
        _links[Path(target)] = original, original.stat().st_mtime_ns


def written_into() -> list[Path]:
    """Return the links whose bytes were changed. A file that was replaced is no link any more."""
    for link, (original, _) in list(_links.items()):
        if not _is_link(link, original):
            del _links[link]
    return [link for link, (_, before) in _links.items() if link.stat().st_mtime_ns != before]


def _is_link(link: Path, original: Path) -> bool:
    try:
        return link.samefile(original)
    except OSError:  # one of them was removed
        return False
