"""Results of an ingest as data frames and dictionaries."""

from pathlib import Path

import pandas as pd

from mobius_pipeline.ingest.captions import Captions
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.sources import Sources, find_media
from mobius_pipeline.ingest.table import tabulate
from mobius_pipeline.media.clip_format import ClipFormat


def ingested(folder: Path, config: IngestConfig, clip: ClipFormat, work: Path) -> pd.DataFrame:
    """Return the table of the clips below `folder`."""
    return pd.read_parquet(tabulate(folder, config, clip, work))


def captions_of(folder: Path, config: IngestConfig, sources: Sources | None = None) -> dict[str, list[str]]:
    """Return the captions of all sources that have any, by path."""
    sources = sources or find_media(folder)
    captions = Captions(folder, sources, config)
    found = {path: captions.of(path) for path in sources.paths}
    captions.log_problems()
    return {path: said for path, said in found.items() if said}
