"""All sources of a folder as rows: those whose bytes are known are not decoded again."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.describe import KNOWN, ROW, describe, rejected
from mobius_pipeline.clips.ingest.flow import each
from mobius_pipeline.clips.ingest.known import KnownSources
from mobius_pipeline.config import ClipFormat
from mobius_pipeline.progress import stage

log = logging.getLogger(__name__)


def read_sources(
    folder: Path, sources: Sequence[str], config: IngestConfig, clip: ClipFormat, work: Path
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all sources, in any order; of one that cannot be read a rejected row.

    Args:
        folder: That the sources are named from.
        sources: Files, members of tar shards and folders of images.
        config: How they are cut and read.
        clip: At which rate, and on which background, they are measured.
        work: Folder that keeps what was found out about their bytes.
    """
    with KnownSources(work, config, clip) as known, stage("ingest", len(sources), "files") as bar:
        task = partial(describe, folder, config=config, clip=clip, known=known.hashes)
        reused = 0
        for source, rows, failure in each(task, sources, ROW, config):
            if failure:
                rows = [rejected(source, failure)]
            elif rows[0]["status"] == KNOWN:
                rows = known.rows_of(source, rows[0])
                reused += 1
            else:
                known.add(source, rows)
            yield from rows
            bar.advance()
    log.info("%d of %d sources were known by their bytes and not decoded again.", reused, len(sources))
