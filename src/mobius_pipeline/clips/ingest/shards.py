"""Clips and captions in a tar shard of the WebDataset layout.

Members with the same key, the name up to the first dot of its last part, belong together: `a/0001.mp4` is the
clip that `a/0001.txt` (a line a caption), `a/0001.cls` (a class's name) and `a/0001.json` (`caption` or
`captions`) describe. https://github.com/webdataset/webdataset
"""

import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mobius_pipeline.clips.ingest.folder import printable
from mobius_pipeline.clips.ingest.texts import MAX_BYTES, SUFFIXES, captions_in

_EMPTY = "holds no clips: no member's name ends as a media file's does"
_NO_FILE = "a link, a device or a sparse file in a shard, which is not opened"
_OUTSIDE = "an absolute path or one with `..` in a shard, which is not opened"
_TWICE = "the shard holds this name more than once"


@dataclass
class Shard:
    """What a shard holds; names are its members', as `PurePosixPath` writes them.

    Attributes:
        clips: Members that are media by their suffix; a dictionary, as an ordered set.
        captions: Of each key, in the members' order.
        refused: Why a member must not be opened.
        damage: What is wrong with the shard itself; "" if nothing is. Its members before the damage are good.
        spoiled: Text members that hold no captions, though they should.
    """

    clips: dict[str, None] = field(default_factory=dict)
    captions: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, str] = field(default_factory=dict)
    damage: str = ""
    spoiled: list[str] = field(default_factory=list)

    def captions_of(self, clip: str) -> list[str]:
        """The captions of one of `clips`."""
        return self.captions.get(_key(clip), [])


def read_shard(path: Path, media: set[str]) -> Shard:
    """Look through a shard, reading names and texts; `media` are the suffixes of clips."""
    shard = Shard()
    try:
        with tarfile.open(path, "r:") as tar:  # in a compressed one no clip could be found by its place
            for member in _members(tar):
                _take(tar, member, shard, media)
    except OSError as error:
        shard.damage = f"cannot be read: {error.strerror or error}"
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        shard.damage = f"damaged or no tar file without compression ({error})"
    for name in shard.refused:
        shard.clips.pop(name, None)
    if not (shard.clips or shard.refused or shard.damage):
        shard.damage = _EMPTY
    return shard


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members one after the other, keeping none."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        if tar.offset <= member.offset:  # a negative size leads back: round and round
            raise tarfile.ReadError(f"the size of {printable(member.name)} is negative")
        yield member
    # `tarfile` takes a damaged header for the end of the shard.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"no header at byte {tar.offset:,}; what comes before is used")


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Shard, media: set[str]) -> None:
    path = PurePosixPath(member.name)
    suffix, name = path.suffix.lower(), printable(str(path))
    if member.isdir() or path.name.startswith(".") or suffix not in media | SUFFIXES:
        return
    if reason := _refusal(member, path, name):
        shard.refused[name] = reason
    elif suffix in SUFFIXES:
        _take_text(tar, member, shard, suffix)
    elif name in shard.clips:
        shard.refused[name] = _TWICE
    else:
        shard.clips[name] = None


def _refusal(member: tarfile.TarInfo, path: PurePosixPath, name: str) -> str:
    if path.is_absolute() or ".." in path.parts:
        return _OUTSIDE
    if not member.isreg() or member.issparse():
        return _NO_FILE
    return "" if name == str(path) else "its name is not UTF-8 text"


def _take_text(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Shard, suffix: str) -> None:
    content = tar.extractfile(member)
    assert content is not None  # it is a regular file
    name = str(PurePosixPath(member.name))
    try:
        shard.captions[_key(name)] += captions_in(suffix, content.read(MAX_BYTES + 1))
    except ValueError:
        shard.spoiled.append(name)


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(path.name.split(".")[0]))
