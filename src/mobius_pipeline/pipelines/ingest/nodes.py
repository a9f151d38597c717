"""The ingestion's node."""

from pathlib import Path

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.table import tabulate
from mobius_pipeline.config import ClipFormat
from mobius_pipeline.engine import EngineConfig


def ingest_clips(
    raw_clips: Path, ingest: IngestConfig, clip: ClipFormat, engine: EngineConfig, work: Path, project: Path
) -> Path:
    """Read every source of clips; what cannot be read becomes a rejected row."""
    return tabulate(raw_clips, ingest, clip, work / "ingest", engine, project)
