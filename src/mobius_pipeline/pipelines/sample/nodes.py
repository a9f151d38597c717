"""Node of the `sample` pipelines of both modes."""

from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.result import TrainingResult


def sample(
    trained: TrainingResult,
    base_model: BaseModel,
    latents: LatentsStore,
    sample: SampleConfig,
    clip: ClipFormat,
    work: Path,
) -> SampleSet:
    """Sample videos with a training's EMA weights."""
    from mobius_pipeline.sampling.sample import sample_videos

    target = unpublished(work / "samples" / trained.mode)
    return sample_videos(trained.pipeline(base_model), latents, sample, clip.rate, target)
