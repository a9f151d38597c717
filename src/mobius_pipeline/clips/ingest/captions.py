"""Captions of clips: from the listing, a table, tar shards, text files beside the clips, folders' names."""

import logging
from itertools import chain
from pathlib import Path, PurePosixPath

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.listing import find_table, read_table
from mobius_pipeline.clips.ingest.named import Named
from mobius_pipeline.clips.ingest.sources import SHARD, SUFFIXES, Sources, plain
from mobius_pipeline.clips.ingest.texts import MAX_BYTES, captions_in, distinct

log = logging.getLogger(__name__)

TABLE = "captions"


class Captions:
    """Captions of clips, looked for when they are asked for.

    The first of these that has any for a clip counts: the listing; `captions.csv`, `.jsonl` or `.parquet`;
    the clip's tar shard; a `<name>.txt` beside the clip, a line a caption; with `caption_from_folder` the
    name of the folder that it lies in.
    """

    def __init__(self, folder: Path, sources: Sources, config: IngestConfig) -> None:
        """Read the table of captions, if there is one.

        Raises:
            MobiusError: If a line of it is damaged or lacks a column, or it is no UTF-8 text.
        """
        self._table = _read_table(folder, sources)
        self._listed = sources.listed
        self._members = sources.members
        self._texts = _Texts(folder, sources)
        self._from_folder = config.caption_from_folder

    def of(self, path: str) -> list[str]:
        """The distinct captions of a source, in their order; none if there are none."""
        name = plain(path)
        return (
            distinct(self._listed.captions(name) if self._listed else [])
            or distinct(self._table.captions(name))
            or distinct(self._members.captions(path))
            or distinct(self._texts.of(path))
            or (_folder_name(path) if self._from_folder else [])
        )

    def group_of(self, path: str) -> str:
        """The group that the listing, or else the table, gives a source; "" for none.

        Raises:
            MobiusError: If one of them gives it several.
        """
        name = plain(path)
        return (self._listed.group(name) if self._listed else "") or self._table.group(name)

    def tell(self) -> None:
        """Once those of all sources were asked for, say which texts could not be read or belong to none."""
        self._texts.tell(strays=self._listed is None)


def _read_table(folder: Path, sources: Sources) -> Named:
    """Captions by plain path; those of files that are not there are counted in the log."""
    path = find_table(folder, sources.tree, TABLE)
    if not path:
        return Named()
    table = Named(row._replace(file=plain(row.file)) for row in read_table(path, captioned=True))
    for source in chain(sources.paths, sources.refused):
        table.claim(plain(source))
    if strays := list(table.unclaimed()):
        log.warning(
            "%s captions %d files that are not there%s, %s for instance.",
            path.name,
            len(strays),
            " or not in the listing" if sources.listed is not None else "",
            strays[0],
        )
    return table


class _Texts:
    """The text files beside clips; what is wrong with them is collected, to be said once."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        self._folder = folder
        self._there = {name for name in sources.tree.files if name.endswith(".txt")}
        self._refused = sources.tree.refused
        self._used: set[str] = set()
        self._unread: dict[str, str] = {}

    def of(self, path: str) -> list[str]:
        """The lines of `a/b.txt`, for a file `a/b.mp4` as for a folder `a/b`."""
        name = _text_name(path)
        if name in self._refused:
            self._unread[name] = self._refused[name]
        if name not in self._there:
            return []
        self._used.add(name)
        try:
            with (self._folder / name).open("rb") as file:
                return captions_in(".txt", file.read(MAX_BYTES + 1))
        except OSError as error:
            self._unread[name] = error.strerror or str(error)
        except UnicodeDecodeError:
            self._unread[name] = "it is not UTF-8 text. Save it as UTF-8."
        except ValueError as error:
            self._unread[name] = str(error)
        return []

    def tell(self, strays: bool) -> None:
        """Say which could not be read and, if asked for, which belong to no clip."""
        for name, reason in self._unread.items():
            log.warning("%s gives its clip no caption: %s", name, reason)
        unused = sorted(self._there - self._used)
        if strays and unused:
            log.warning("%d text files stand beside no clip, %s for instance.", len(unused), unused[0])


def _text_name(path: str) -> str:
    source = PurePosixPath(path)
    stem = source.stem if source.suffix.lower() in SUFFIXES else source.name  # a folder's name may hold dots
    return str(source.with_name(f"{stem}.txt"))


def _folder_name(path: str) -> list[str]:
    """The name of the folder that a clip lies in, underscores as spaces; a tar shard is no such folder."""
    folders = [part for part in PurePosixPath(path).parts[:-1] if not part.lower().endswith(SHARD)]
    return distinct([folders[-1].replace("_", " ")]) if folders else []
