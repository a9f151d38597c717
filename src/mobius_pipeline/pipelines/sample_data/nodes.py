"""Node of the `sample_data` pipeline."""

import logging
from pathlib import Path

from mobius_pipeline.runtime.files import atomic_folder
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sources.sample_clips import SampleClipsConfig, is_complete, write_set

log = logging.getLogger(__name__)


def render_sample_clips(sample_data: SampleClipsConfig, published: Path, work: Path) -> Path:
    """Render the sample clips, unless the same set is already published."""
    if is_complete(published, sample_data):
        log.info("%s already holds these %d sample clips.", published, sample_data.clips)
        return published
    target = unpublished(work / "sample_clips")
    with atomic_folder(target) as partial:
        write_set(partial, sample_data)
    return target
