"""Node of the `ingest` pipeline."""

from pathlib import Path

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.table import tabulate
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.daft_runner import EngineConfig


def ingest_clips(
    raw_clips: Path, ingest: IngestConfig, clip: ClipFormat, engine: EngineConfig, work: Path, project: Path
) -> Path:
    """Read every source of clips into a table; sources that cannot be read become rejected rows."""
    return tabulate(raw_clips, ingest, clip, work / "ingest", engine, project)
