"""Build the clip table of a folder of media files, one row per clip (columns: `ingest/schema.py`)."""

import hashlib
import heapq
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mobius_pipeline.ingest.captions import Captions
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.links import Allowed
from mobius_pipeline.ingest.read import read_sources
from mobius_pipeline.ingest.schema import CLIP_COLUMNS, OK, REJECTED, Row, Rows, in_file
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.ingest.split import split_of
from mobius_pipeline.media.clip import steps_within
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.daft_runner import NATIVE, EngineConfig
from mobius_pipeline.runtime.files import atomic_file
from mobius_pipeline.runtime.tables import CHECKSUMS

log = logging.getLogger(__name__)

_NAMED = 50  # rejected rows named in the log
_ROWS_AT_ONCE = 1024  # in memory, and in a row group of the file
_SCHEMA = in_file(CLIP_COLUMNS)
_WORD = re.compile(r"[^\W\d_]+")


def tabulate(
    folder: Path,
    config: IngestConfig,
    clip: ClipFormat,
    work: Path,
    engine: EngineConfig = NATIVE,
    project: Path | None = None,
) -> Path:
    """Read every source below `folder` into a table of its clips, sorted by source and time.

    Rows are written as they arrive: only the file names are held in memory.

    Args:
        folder: The raw clips.
        config: How they are cut and read.
        clip: The clip format of the model.
        work: Folder of the table and of the decode cache, so that the next run decodes only new files.
        engine: The Daft engine that runs the workers.
        project: The project. Links may lead into its DVC cache; `config.linked_folders` are relative to it.

    Returns:
        A Parquet file below `work`.

    Raises:
        MobiusError: If there are no sources of clips, or the listing or the captions cannot be read.
    """
    sources = find_media(folder, Allowed(config.linked_folders, project))
    captions = Captions(folder, sources, config)
    rejected = ([row] for row in sorted(sources.rejected(), key=_source))
    read = read_sources(folder, sources, config, engine, clip, work)
    by_source = heapq.merge(read, rejected, key=lambda rows: _source(rows[0]))
    work.mkdir(parents=True, exist_ok=True)
    table = work / "clips.parquet"
    with atomic_file(table) as partial:
        _write(_complete(by_source, captions, config, clip), partial)
    captions.log_problems()
    _log_summary(table, folder)
    return table


def _source(row: Row) -> str:
    return str(row["source"])


def _complete(
    by_source: Iterable[Rows], captions: Captions, config: IngestConfig, clip: ClipFormat
) -> Iterator[Row]:
    """Yield the rows of the sources with the derived columns added."""
    for rows in by_source:
        source = _source(rows[0])
        texts, group = captions.of(source), captions.group_of(source)
        for row in rows:
            yield {**row, **_derived(row, texts, group, config, clip)}


def _derived(row: Row, captions: list[str], group: str, config: IngestConfig, clip: ClipFormat) -> Row:
    """Return the columns that are derived from other columns, the captions and the group."""
    caption = next(iter(captions), "")
    return {
        "captions": captions,
        "caption": caption,
        "words": len(_WORD.findall(caption)),
        "model_frames": steps_within(row["duration_s"], clip.rate),
        "group": group,
        "split": split_of(group or row["source_sha256"], config.heldout_share),
        "clip_id": clip_id(row["source_sha256"], row["start_frame"], row["end_frame"]),
    }


def _write(rows: Iterator[Row], path: Path) -> None:
    with pq.ParquetWriter(path, _SCHEMA, **CHECKSUMS) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            assert batch[0].keys() == set(
                _SCHEMA.names
            )  # pyarrow would drop others and fill these with nulls
            writer.write_table(pa.Table.from_pylist(batch, _SCHEMA))


def clip_id(source_sha256: str, start_frame: int, end_frame: int) -> str:
    """Return the SHA-256 of (SHA-256 of the source, frame range), which is independent of the file's name."""
    return hashlib.sha256(f"{source_sha256}:{start_frame}:{end_frame}".encode()).hexdigest()


def _log_summary(table: Path, folder: Path) -> None:
    """Log how many clips were read, and which were rejected."""
    rejected = pq.read_table(table, columns=["path", "reason"], filters=[("status", "=", REJECTED)])
    uncaptioned = pq.read_table(
        table, columns=[], filters=[("status", "=", OK), ("caption", "=", "")]
    ).num_rows
    clips = pq.read_metadata(table).num_rows
    log.info(
        "%d clips in %s: %d read, %d rejected, %d without a caption.",
        clips,
        folder,
        clips - len(rejected),
        len(rejected),
        uncaptioned,
    )
    for row in rejected.slice(0, _NAMED).to_pylist():
        log.warning("Rejected: %s (%s)", row["path"], row["reason"])
    if len(rejected) > _NAMED:
        log.warning("… and %d more; the quarantine lists them all.", len(rejected) - _NAMED)
