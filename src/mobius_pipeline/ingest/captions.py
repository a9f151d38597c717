"""Look up captions of clips in the listing, tables, tar shards, text files beside clips and folder names."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path, PurePosixPath

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.file_names import NameGuess, plain, spelled
from mobius_pipeline.ingest.listing import READERS, find_table, lacks_columns, read_table
from mobius_pipeline.ingest.listing_index import ListingIndex, ListingRow
from mobius_pipeline.ingest.sources import LISTING, SHARD, SUFFIXES, Sources
from mobius_pipeline.ingest.texts import LINES, MAX_BYTES, captions_in, distinct
from mobius_pipeline.media.image_sequence import SEQUENCE
from mobius_pipeline.runtime.errors import MobiusError

log = logging.getLogger(__name__)

TABLE, METADATA = "captions", "metadata"
# Suffixes of files that may hold captions but are not read.
_MAY_HOLD = {*LINES, *READERS, ".json", ".tsv", ".srt", ".vtt", ".cls", ".xml", ".yaml", ".yml"}
_NAMED = 5  # number of such files named in the log


class Captions:
    """Captions of clips, looked up one source at a time.

    The first of these that has a caption for a clip is used:

    1. the listing;
    2. `captions.csv`, `.jsonl` or `.parquet` in the folder of clips;
    3. `metadata.csv`, `.jsonl` or `.parquet` in a folder above the clip (Hugging Face's layout);
    4. the clip's tar shard;
    5. `<name>.txt` or `<name>.caption` beside the clip, one caption per line;
    6. with `caption_from_folder`, the name of the clip's folder.
    """

    def __init__(self, folder: Path, sources: Sources, config: IngestConfig) -> None:
        """Read the tables of captions, if there are any.

        Raises:
            MobiusError: If a line of a table is damaged or lacks a column, or it is not UTF-8 text.
        """
        self._tree, self._without = sources.tree, 0
        self._tables = _Tables(folder, sources)
        self._listed = sources.listed
        self._members = sources.members
        self._texts = _Texts(folder, sources)
        self._from_folder = config.caption_from_folder

    def of(self, path: str) -> list[str]:
        """Return the distinct captions of a source, in their order."""
        name, beside = plain(path), self._texts.beside(path)
        found = (
            distinct(self._listed.captions(name) if self._listed else [])
            or distinct(self._tables.captions(name))
            or distinct(self._members.captions(path))
            or distinct(self._texts.of(beside))
            or (_folder_name(path) if self._from_folder else [])
        )
        self._without += not found
        return found

    def group_of(self, path: str) -> str:
        """Return the group of a source from the listing, or else from a table; "" if there is none.

        Raises:
            MobiusError: If one of them gives several groups.
        """
        name = plain(path)
        return (self._listed.group(name) if self._listed else "") or self._tables.group(name)

    def log_problems(self) -> None:
        """Log which caption files were not read or belong to no clip. Call it after the last look-up."""
        self._texts.log_problems(strays=self._listed is None)
        read = {*self._texts.used, *self._tables.names}
        others = [
            name
            for name in self._tree.files
            if PurePosixPath(name).suffix.lower() in _MAY_HOLD
            and name not in read
            and PurePosixPath(name).name != SEQUENCE
        ]
        if self._without and others:
            log.warning(
                "%d sources have no caption. %d files that may hold captions are not read: %s%s. See "
                "docs/your_clips.md for the files that are read.",
                self._without,
                len(others),
                ", ".join(others[:_NAMED]),
                " …" if len(others) > _NAMED else "",
            )


class _Tables:
    """Captions and groups from tables: `captions` in the top folder, then `metadata` in each folder."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        self._sources = sources
        self._there = {plain(source) for source in chain(sources.paths, sources.refused)}
        media = {name for name in sources.tree.files if PurePosixPath(name).suffix.lower() in SUFFIXES}
        self._no_clips = {plain(name) for name in sources.tree.files if name not in media} - self._there
        self._tables: list[ListingIndex] = []
        self.names = [name for name in sources.tree.files if PurePosixPath(name.lower()).stem == LISTING]
        if captions := find_table(folder, sources.tree, TABLE):
            self._add(captions, captions.name, read_table(captions, captioned=True))
        for name in sources.tree.files:
            path = PurePosixPath(name.lower())
            if path.stem == METADATA and path.suffix in READERS:
                self._add_metadata(folder / name, name)

    def captions(self, name: str) -> list[str]:
        """Return the captions of a source from the first table that has some."""
        return next(filter(None, (table.captions(name) for table in self._tables)), [])

    def group(self, name: str) -> str:
        """Return the group of a source from the first table that has one."""
        return next(filter(None, (table.group(name) for table in self._tables)), "")

    def _add_metadata(self, path: Path, name: str) -> None:
        try:
            lacks = lacks_columns(path)
        except MobiusError as error:
            lacks = str(error)
        if lacks:
            log.warning("%s is not read (it needs columns `file_name` and `text`): %s", name, lacks)
            return
        below = PurePosixPath(name).parent
        rows = read_table(path, captioned=True)
        self._add(path, name, (row._replace(file=str(below / row.file)) for row in rows))

    def _add(self, path: Path, name: str, rows: Iterable[ListingRow]) -> None:
        """Add a table; log how many files it names that do not exist or are not clips."""
        table = ListingIndex(row._replace(file=spelled(row.file, self._there)) for row in rows)
        for source in self._there:
            table.claim(source)
        strays = [file for file in table.unclaimed() if file not in self._no_clips]
        if passed := [file for file in table.unclaimed() if file in self._no_clips]:
            log.warning(
                "%s has captions of %d files that are not clips, such as %s.", name, len(passed), passed[0]
            )
        if strays:
            log.warning(
                "%s has captions of %d files that do not exist%s, such as %s.%s",
                name,
                len(strays),
                " or are not in the listing" if self._sources.listed is not None else "",
                strays[0],
                NameGuess(self._sources.paths).question(strays[0]),
            )
        self._tables.append(table)
        self.names.append(name)


class _Texts:
    """Text files beside clips. Their problems are collected and logged once."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        self._folder = folder
        self._there, self._refused = set[str](), sources.tree.refused
        self._spellings = defaultdict[str, list[str]](list)
        for name in sources.tree.files:
            if (suffix := PurePosixPath(name).suffix).lower() in LINES:
                self._there.add(name)
                self._spellings[name.removesuffix(suffix) + suffix.lower()].append(name)
        for name in self._refused:
            suffix = PurePosixPath(name).suffix
            self._spellings[name.removesuffix(suffix) + suffix.lower()].append(name)
        self.used: set[str] = set()
        self._unread: dict[str, str] = {}

    def beside(self, path: str) -> list[str]:
        """Return `a/b.txt` and `a/b.caption` (suffix in any case) for a file `a/b.mp4` or a folder `a/b`."""
        names = [name for suffix in LINES for name in self._spellings.get(_stem(path) + suffix, ())]
        self.used.update(names)
        return names

    def of(self, names: list[str]) -> list[str]:
        """Return the distinct lines of the first of these files that has text."""
        return next(filter(None, (distinct(self._lines(name)) for name in names)), [])

    def _lines(self, name: str) -> list[str]:
        if name in self._refused:
            self._unread[name] = self._refused[name]
            return []
        try:
            with (self._folder / name).open("rb") as file:
                return captions_in(LINES[0], file.read(MAX_BYTES + 1))
        except OSError as error:
            self._unread[name] = error.strerror or str(error)
        except UnicodeDecodeError:
            self._unread[name] = "it is not UTF-8 text. Save it as UTF-8."
        except ValueError as error:
            self._unread[name] = str(error)
        return []

    def log_problems(self, strays: bool) -> None:
        """Log which files could not be read and, if `strays`, which belong to no clip."""
        for name, reason in self._unread.items():
            log.warning("%s gives its clip no caption: %s", name, reason)
        unused = sorted(self._there - self.used)
        if strays and unused:
            log.warning("%d text files belong to no clip, such as %s.", len(unused), unused[0])


def _stem(path: str) -> str:
    source = PurePosixPath(path)
    stem = (
        source.stem if source.suffix.lower() in SUFFIXES else source.name
    )  # a folder's name may contain dots
    return str(source.with_name(stem))


def _folder_name(path: str) -> list[str]:
    """Return the name of a clip's folder, underscores as spaces; a tar shard does not count as a folder."""
    folders = [part for part in PurePosixPath(path).parts[:-1] if not part.lower().endswith(SHARD)]
    return distinct([folders[-1].replace("_", " ")]) if folders else []
