"""The files below a folder, and none outside of it: what leads out, is no file or is closed is refused."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_OUTSIDE = "a link that leads outside of the folder of clips; nothing there is opened. Copy its target in."
_FOLDER_LINK = "a link to a folder; what lies in that folder is named where it lies"
_BROKEN = "a link that leads nowhere"
_NO_FILE = "no regular file (a pipe, a socket or a device)"
_NO_TEXT = "its name is not UTF-8 text. Rename it."


@dataclass
class Tree:
    """What lies below a folder; names are relative to it, POSIX.

    Attributes:
        files: Regular files, and links to such within the folder; hidden ones are not among them.
        refused: Why a name must not be opened.
        folders: Those of `refused` that are folders.
        hidden: Files and folders whose name starts with a dot.
    """

    files: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    hidden: int = 0


def walk(folder: Path) -> Tree:
    """Look through all of `folder`, one system call a folder and none a file that is no link."""
    root = os.path.realpath(folder)
    tree, waiting = Tree(), ["."]
    while waiting:
        below = waiting.pop()
        try:
            for entry in _entries(os.path.join(root, below)):  # noqa: PTH118 (a `Path` a file costs seconds)
                _take(entry, _join(below, entry.name), root, tree, waiting)
        except OSError as error:  # no permission, a failing disk
            tree.refused[below] = f"cannot be read: {error.strerror}"
            tree.folders.add(below)
    tree.files.sort()
    return tree


def printable(name: str) -> str:
    """`name` as text that can be stored: bytes that are no UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from entries


def _join(below: str, name: str) -> str:
    return name if below == "." else f"{below}/{name}"


def _take(entry: os.DirEntry[str], name: str, root: str, tree: Tree, waiting: list[str]) -> None:
    is_folder = entry.is_dir(follow_symlinks=False)
    if entry.name.startswith("."):
        tree.hidden += 1
    elif name != printable(name):
        _refuse(tree, printable(name), _NO_TEXT, is_folder)
    elif entry.is_symlink():
        reason, is_folder = _looked_through(entry.path, root)
        if reason:
            _refuse(tree, name, reason, is_folder)
        else:
            tree.files.append(name)
    elif is_folder:
        waiting.append(name)
    elif entry.is_file(follow_symlinks=False):
        tree.files.append(name)
    else:
        _refuse(tree, name, _NO_FILE, False)


def _refuse(tree: Tree, name: str, reason: str, is_folder: bool) -> None:
    tree.refused[name] = reason
    if is_folder:
        tree.folders.add(name)


def _looked_through(link: str, root: str) -> tuple[str, bool]:
    """Why a link is refused, "" if it is not, and whether it leads to a folder. Nothing is opened."""
    try:
        target = os.path.realpath(link, strict=True)
        mode = os.stat(target).st_mode  # noqa: PTH116
    except OSError:  # also a circle of links
        return _BROKEN, False
    is_folder = stat.S_ISDIR(mode)
    if Path(root) not in Path(target).parents and target != root:
        return _OUTSIDE, is_folder
    if is_folder:
        return _FOLDER_LINK, True
    return ("" if stat.S_ISREG(mode) else _NO_FILE), False
