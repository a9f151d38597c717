"""Read all sources of a folder into rows; sources with known bytes are not decoded again."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.dataflow import Unread, each
from mobius_pipeline.ingest.decode_cache import DecodeCache
from mobius_pipeline.ingest.describe import KnownSource, describe
from mobius_pipeline.ingest.schema import REJECTED, SOURCE_COLUMNS, Rows, rejected
from mobius_pipeline.ingest.sources import Sources
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.daft_runner import EngineConfig
from mobius_pipeline.runtime.progress import stage

log = logging.getLogger(__name__)


def read_sources(
    folder: Path, sources: Sources, config: IngestConfig, engine: EngineConfig, clip: ClipFormat, work: Path
) -> Iterator[Rows]:
    """Yield the rows of each source in order; an unreadable source gives one rejected row.

    Args:
        folder: The folder of clips.
        sources: The sources, with the SHA-256 that a listing gives for them.
        config: How sources are cut and read.
        engine: The Daft engine that runs the workers.
        clip: Frame rate and background for the statistics.
        work: Folder of the decode cache.
    """
    paths = sources.paths
    with DecodeCache(work, config, clip) as cache, stage("ingest", len(paths), "files") as bar:
        task = partial(describe, folder, config=config, clip=clip, known=cache.hashes())
        reused = 0

        def done() -> Iterator[tuple[str, Rows]]:
            nonlocal reused
            for source, answer in each(task, paths, SOURCE_COLUMNS, config, engine):
                bar.advance()
                match answer:
                    case Unread(reason):
                        yield source, [rejected(source, reason)]
                    case KnownSource(sha256):
                        reused += 1
                        yield source, cache.rows_of(source, sha256)
                    case rows:
                        cache.add(source, rows)
                        yield source, rows

        for source, rows in zip(paths, in_order(done(), paths), strict=True):
            yield check_hash(source, rows, sources.listed_sha256(source))
    log.info("%d of %d sources were known by their bytes and not decoded again.", reused, len(paths))


def in_order(done: Iterable[tuple[str, Rows]], names: Sequence[str]) -> Iterator[Rows]:
    """Yield results in the order of `names`; early results are kept in memory."""
    coming, waiting = iter(done), dict[str, Rows]()
    for name in names:
        while name not in waiting:
            waiting.update([next(coming)])
        yield waiting.pop(name)


def check_hash(source: str, rows: Rows, listed: Sequence[str]) -> Rows:
    """Return the rows of a source, or a rejected row if a listing gives another SHA-256 for it."""
    about = {name: rows[0][name] for name in ("source_sha256", "bytes")}
    if rows[0]["status"] == REJECTED or all(one == about["source_sha256"] for one in listed):
        return rows
    reason = f"its SHA-256 is {about['source_sha256']}, but the listing gives {' and '.join(listed)}"
    return [rejected(source, reason, **about)]
