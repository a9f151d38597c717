"""The node that downloads an environment's public clips."""

from pathlib import Path

from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sources.emoji import FetchConfig, fetch


def fetch_clips(fetch_config: FetchConfig, work: Path) -> Path:
    """Download, verify and caption the package that `fetch.package` names."""
    return fetch(fetch_config, unpublished(work / "fetch"))
