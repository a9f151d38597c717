"""The ingestion's node."""

from pathlib import Path

import pandas as pd

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.table import tabulate
from mobius_pipeline.config import ClipFormat


def ingest_clips(raw_clips: Path, ingest: IngestConfig, clip: ClipFormat, work: str) -> pd.DataFrame:
    """Read every source of clips; what cannot be read becomes a rejected row."""
    return tabulate(raw_clips, ingest, clip, Path(work, "ingest"))
