"""The sampling's node: one for both modes."""

from pathlib import Path

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sampling.config import SampleConfig


def sample(
    weights: Path, base_model: Path, latents: Path, sample: SampleConfig, clip: ClipFormat, work: Path
) -> Path:
    """Sample videos from a training's EMA weights."""
    from mobius_pipeline.latents.store import LatentsStore
    from mobius_pipeline.sampling.sample import sample_videos
    from mobius_pipeline.training.result import load_pipeline, refuse_other_mode

    refuse_other_mode(weights, weights.name)
    store = LatentsStore(latents)
    target = unpublished(work / "samples" / weights.name)
    pipe = load_pipeline(weights, base_model)
    return sample_videos(pipe, store, sample, clip.rate, target)
