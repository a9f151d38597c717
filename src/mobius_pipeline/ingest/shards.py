"""Read the clips and captions of a tar shard in WebDataset's layout.

Members with the same key, the name up to the first dot of its last part, belong together: the clip
`a/0001.mp4` is described by `a/0001.txt` (one caption per line), `a/0001.cls` (a class name) and
`a/0001.json` (`caption` or `captions`). https://github.com/webdataset/webdataset
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mobius_pipeline.ingest.texts import MAX_BYTES, SUFFIXES, captions_in
from mobius_pipeline.ingest.walk import NO_TEXT, printable
from mobius_pipeline.media import tar

_EMPTY = "holds no clips: no member has the suffix of a media file"


@dataclass
class Shard:
    """Contents of a shard, by the names of its members.

    Attributes:
        clips: Members with the suffix of a media file, and their captions in the order of the members.
        refused: Members that are not read, and why.
        damage: What is wrong with the shard itself, or ""; `clips` can be used nevertheless.
        unusable: Text members whose captions cannot be read.
    """

    clips: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    damage: str = ""
    unusable: list[str] = field(default_factory=list)


def read_shard(path: Path, media: set[str]) -> Shard:
    """Index a shard and read its texts; `media` are the suffixes of clips."""
    shard = Shard()
    try:
        archive = tar.index(path)
        captions = _captions(path, archive, shard)
    except OSError as error:
        return Shard(damage=f"cannot be read: {error.strerror or error}")
    names = [name for name in archive.members if _suffix(name) in media]
    shard.clips = {name: captions[_key(name)] for name in names if name == printable(name)}
    shard.refused = {name: NO_TEXT for name in map(printable, names) if name not in shard.clips}
    shard.refused |= {
        printable(name): reason
        for name, reason in archive.refused.items()
        if _suffix(name) in media | SUFFIXES
    }
    shard.damage = archive.damage or ("" if names or shard.refused else _EMPTY)
    return shard


def _captions(path: Path, archive: tar.Archive, shard: Shard) -> defaultdict[str, list[str]]:
    """Return the captions by key; add members that cannot be read to `shard.unusable`."""
    captions = defaultdict[str, list[str]](list)
    with path.open("rb") as file:
        for name, (offset, size) in archive.members.items():
            if _suffix(name) in SUFFIXES:
                file.seek(offset)
                try:
                    captions[_key(name)] += captions_in(_suffix(name), file.read(min(size, MAX_BYTES + 1)))
                except ValueError:
                    shard.unusable.append(printable(name))
    return captions


def _suffix(name: str) -> str:
    path = PurePosixPath(name)
    return "" if path.name.startswith(".") else path.suffix.lower()


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".")[0]
