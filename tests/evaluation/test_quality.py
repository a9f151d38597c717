"""All measures of a set of videos."""

import numpy as np
import pytest
import torch

from mobius_pipeline.evaluation.quality import quality
from mobius_pipeline.evaluation.video_metrics import latent_features


def encode(video: np.ndarray) -> torch.Tensor:
    """A stand-in for the VAE: (F, H, W, 3) to (F, 4, 8, 8)."""
    return torch.nn.functional.interpolate(torch.from_numpy(video).float().permute(0, 3, 1, 2), 8).repeat(
        1, 2, 1, 1
    )[:, :4]


@pytest.mark.parametrize("frames", [2, 3])
def test_the_flicker_of_two_frames_is_unknown(frames: int) -> None:
    videos = np.random.default_rng(0).integers(0, 256, (4, frames, 16, 16, 3), dtype=np.uint8)
    real = torch.stack([latent_features(encode(video)) for video in videos])
    found = quality(videos, ["a cat"] * 4, real, encode, seed=0)
    assert (found.flicker is None) == (frames == 2)
    assert found.dynamic_degree > 0
    assert found.prompt_match is None
