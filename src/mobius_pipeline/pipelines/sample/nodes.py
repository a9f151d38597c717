"""The sampling's node: one for both modes."""

from pathlib import Path

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.sampling.config import SampleConfig


def sample(
    weights: Path, base_model: Path, latents: Path, sample: SampleConfig, clip: ClipFormat, work: Path
) -> Path:
    """Sample videos from a training's EMA weights."""
    from mobius_pipeline.latents.store import LatentsStore
    from mobius_pipeline.sampling.sample import sample_videos

    target = work / "samples" / weights.name
    return sample_videos(weights, base_model, LatentsStore(latents), sample, clip.rate, target)
