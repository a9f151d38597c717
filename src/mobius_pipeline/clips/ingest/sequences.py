"""Folders of numbered pictures, each folder a clip: `shots/0001` with `frame_001.png`, `frame_002.png` ….

`sequence.json` in the folder says how fast they are shown: `{"fps": 24}`.
"""

from collections import defaultdict
from pathlib import Path, PurePosixPath

from mobius_pipeline.clips.ingest.folder import Tree

RATE = "sequence.json"
STILLS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_NO_RATE = f'numbered pictures without a frame rate. Write {RATE} beside them, for instance {{"fps": 24}}.'
_AT_THE_TOP = "numbered pictures lie directly in the folder of clips. Move them into a folder of their own."
_TOO_FEW = f"{RATE} stands there, but fewer than two pictures whose names end in a number"
_ANIMATION = 0b10  # among the flags of an extended WebP file


def find_sequences(folder: Path, tree: Tree, media: set[str]) -> tuple[dict[str, str], set[str]]:
    """Find the folders of pictures in `tree`; `media` are the suffixes of clips that are files.

    A folder with a `sequence.json` is one, and one that holds at least two numbered stills and no clip.

    Returns:
        The folders with why each cannot be used, "" if it can, and the files that they are made of.
    """
    refused = {
        _folder_of(name): f"{name}: {reason}"
        for name, reason in tree.refused.items()
        if _is_numbered(name) or _last(name) == RATE
    }
    found: dict[str, str] = {}
    frames: set[str] = set()
    for parent, names in _by_folder(tree.files).items():
        pictures = [name for name in names if _is_numbered(name)]
        declared = any(_last(name) == RATE for name in names)
        if declared or _is_undeclared(folder, names, pictures, media):
            found[parent] = _refusal(parent, refused.get(parent, ""), declared, len(pictures))
            frames.update(pictures)
    frames.update(name for name in tree.refused if _is_numbered(name) and _folder_of(name) in found)
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


def _is_numbered(name: str) -> bool:
    stem, dot, suffix = _last(name).rpartition(".")
    return stem[-1:].isdecimal() and dot + suffix.lower() in STILLS


def _is_undeclared(folder: Path, names: list[str], pictures: list[str], media: set[str]) -> bool:
    if len(pictures) < 2:
        return False
    clips = {name for name in names if PurePosixPath(name).suffix.lower() in media}
    return clips <= set(pictures) and all(_is_still(folder / picture) for picture in pictures)


def _is_still(path: Path) -> bool:
    """Say whether a picture is no animation, by its first bytes; one that cannot be read is none."""
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError:
        return False
    if path.suffix.lower() == ".png":
        return head.startswith(b"\x89PNG") and b"acTL" not in head
    if path.suffix.lower() == ".webp":
        return head[8:12] == b"WEBP" and not (head[12:16] == b"VP8X" and head[20] & _ANIMATION)
    return True


def _refusal(parent: str, refused: str, declared: bool, pictures: int) -> str:
    if parent == ".":
        return _AT_THE_TOP
    if refused or not declared:
        return refused or _NO_RATE
    return _TOO_FEW if pictures < 2 else ""
