"""Node of the `fetch` pipeline."""

from pathlib import Path

from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sources.emoji import FetchConfig, fetch


def fetch_clips(fetch_config: FetchConfig, work: Path) -> Path:
    """Download, verify and caption the clips of the package `fetch.package`."""
    return fetch(fetch_config, unpublished(work / "fetch"))
