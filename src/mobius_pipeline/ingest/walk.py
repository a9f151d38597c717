"""List the files below a folder. Links that lead outside, special files and unreadable folders are refused.

A link may lead into an allowed folder (`links.Allowed`): its target then counts as part of the folder.
"""

import os
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_OUTSIDE = (
    "a link that leads outside the folder of clips, to {}, which is not opened. Copy the target into the "
    "folder, or add a folder above it to ingest.linked_folders (conf/base/parameters_ingest.yml)."
)
_FOLDER_LINK = "a link to a folder that is already included; its files are listed under another path"
_BROKEN = "a broken link"
_NO_FILE = "not a regular file (a pipe, a socket or a device)"
NO_TEXT = "its name is not UTF-8 text. Rename it; DVC refuses the whole folder because of it."


@dataclass
class Tree:
    """The contents of a folder, as relative POSIX paths.

    Attributes:
        files: Regular files, and links to files in the folder or in an allowed one; without hidden files.
        refused: Names that must not be opened, and why.
        folders: Those of `refused` that are folders.
        hidden: Number of files and folders whose name starts with a dot.
    """

    files: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    hidden: int = 0


def walk(folder: Path, allowed: Container[str] = ()) -> Tree:
    """List all files below `folder`, with one `scandir` per folder and no system call for a regular file.

    A linked folder in `allowed` is listed once, under the first name of the links that lead to it.
    """
    walking = _Walking(os.path.realpath(folder), allowed)
    tree, seen = walking.tree, set[str]()
    while walking.waiting or walking.linked:
        if walking.waiting:
            walking.scan(walking.waiting.pop())
            continue
        name = min(walking.linked)
        target = walking.linked.pop(name)
        if target in seen:
            _refuse(tree, name, _FOLDER_LINK, True)
        else:
            seen.add(target)
            walking.waiting.append(name)
    tree.files.sort()
    return tree


def printable(name: str) -> str:
    r"""Return the `name` of a file as valid text: bytes that are not UTF-8 become escapes such as `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from entries


def _join(below: str, name: str) -> str:
    return name if below == "." else f"{below}/{name}"


class _Walking:
    """A walk in progress: the folders still to list, and the links to allowed folders with their targets."""

    def __init__(self, root: str, allowed: Container[str]) -> None:
        self._root, self._allowed = root, allowed
        self.tree, self.waiting = Tree(), ["."]
        self.linked: dict[str, str] = {}

    def scan(self, below: str) -> None:
        """Add the contents of a folder."""
        try:
            # Creating a `Path` for each file takes seconds.
            for entry in _entries(os.path.join(self._root, below)):  # noqa: PTH118
                self._take(entry, _join(below, entry.name))
        except OSError as error:  # for instance no permission, or a failing disk
            _refuse(self.tree, below, f"cannot be read: {error.strerror}", True)

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith("."):
            self.tree.hidden += 1
        elif name != printable(name):
            _refuse(self.tree, printable(name), NO_TEXT, is_folder)
        elif entry.is_symlink():
            self._follow(entry.path, name)
        elif is_folder:
            self.waiting.append(name)
        elif entry.is_file(follow_symlinks=False):
            self.tree.files.append(name)
        else:
            _refuse(self.tree, name, _NO_FILE, False)

    def _follow(self, link: str, name: str) -> None:
        """Add the target of a link, or refuse it, without opening it."""
        try:
            target = os.path.realpath(link, strict=True)
            mode = os.stat(target).st_mode  # noqa: PTH116
        except OSError:  # also a loop of links
            return _refuse(self.tree, name, _BROKEN, False)
        is_folder, root = stat.S_ISDIR(mode), Path(self._root)
        if not (is_own := Path(target).is_relative_to(root)) and target not in self._allowed:
            _refuse(self.tree, name, _OUTSIDE.format(printable(target)), is_folder)
        elif is_folder and (is_own or root.is_relative_to(target)):
            _refuse(self.tree, name, _FOLDER_LINK, True)
        elif is_folder:
            self.linked[name] = target
        elif stat.S_ISREG(mode):
            self.tree.files.append(name)
        else:
            _refuse(self.tree, name, _NO_FILE, False)
        return None


def _refuse(tree: Tree, name: str, reason: str, is_folder: bool) -> None:
    tree.refused[name] = reason
    if is_folder:
        tree.folders.add(name)
