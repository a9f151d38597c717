"""Find folders of numbered pictures, each of which is a clip: `shots/0001/frame_001.png`, `frame_002.png` ….

`sequence.json` in the folder gives the frame rate: `{"fps": 24}`.
"""

from collections import defaultdict
from pathlib import Path, PurePosixPath

from mobius_pipeline.ingest.walk import Tree
from mobius_pipeline.media.image_sequence import IMAGES, SEQUENCE

_NO_RATE = (
    f'numbered pictures without a frame rate. Write {SEQUENCE} beside them, for instance {{"fps": 24}}.'
)
_AT_THE_TOP = "numbered pictures lie directly in the folder of clips. Move them into a subfolder."
_ANIMATION = 0b10  # flag of an extended WebP file


def find_sequences(folder: Path, tree: Tree, media: set[str]) -> tuple[dict[str, str], set[str]]:
    """Find the folders of pictures in `tree`; `media` are the suffixes of clips that are files.

    These are folders with a `sequence.json`, where all pictures are frames; and folders without one that hold
    no clip but at least two stills whose names end in a number, since they may be meant as a clip.

    Returns:
        Folder to the reason why it cannot be used ("" if it can), and the files that the folders consist of.
    """
    refused = {
        _folder_of(name): f"{name}: {reason}"
        for name, reason in tree.refused.items()
        if _suffix(name) in IMAGES or _last(name) == SEQUENCE
    }
    found: dict[str, str] = {}
    for parent, names in _by_folder(tree.files).items():
        declared = any(_last(name) == SEQUENCE for name in names)
        if declared or _is_undeclared(folder, names, media):
            found[parent] = _refusal(parent, refused.get(parent, ""), declared)
    pictures = (name for name in [*tree.files, *tree.refused] if _suffix(name) in IMAGES)
    frames = {name for name in pictures if _folder_of(name) in found}
    return found, frames


def _by_folder(files: list[str]) -> dict[str, list[str]]:
    folders = defaultdict(list)
    for name in files:
        folders[_folder_of(name)].append(name)
    return folders


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_undeclared(folder: Path, names: list[str], media: set[str]) -> bool:
    pictures = [name for name in names if _suffix(name) in IMAGES]
    if sum(PurePosixPath(name).stem[-1:].isdecimal() for name in pictures) < 2:
        return False
    if any(_suffix(name) in media - IMAGES for name in names):
        return False
    return all(_is_still(folder / picture) for picture in pictures)


def _is_still(path: Path) -> bool:
    """Return whether a picture is not animated, by its first bytes; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError:
        return False
    if path.suffix.lower() == ".png":
        return head.startswith(b"\x89PNG") and b"acTL" not in head
    if path.suffix.lower() == ".webp":
        return head[8:12] == b"WEBP" and not (
            head[12:16] == b"VP8X" and int.from_bytes(head[20:21]) & _ANIMATION
        )
    return True


def _refusal(parent: str, refused: str, declared: bool) -> str:
    if parent == ".":
        return _AT_THE_TOP
    return refused or ("" if declared else _NO_RATE)
