"""Measures of sampled videos without captions: flicker, motion, and Fréchet distance to real clips.

Videos are uint8 (N, F, H, W, 3). None of these ranks videos by itself: compare each with the real clips'
value.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.fid import FrechetInceptionDistance

from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.runtime.errors import MobiusError

Encode = Callable[[Pixels], Tensor]  # frames, uint8 (F, H, W, 3) -> posterior means (F, C, h, w)

EXTRACTOR = "vae-spacetime-pool"  # name of the features of `video_features`, shown beside the distance
_POOLED = 2  # latents are averaged to this number of cells per side


@dataclass(frozen=True)
class FrechetComparison:
    """Fréchet distance of sampled to real videos, and of real to other real videos.

    Attributes:
        distance: Between `videos` sampled and `videos` real videos.
        reference: Between two disjoint sets of `videos` real videos: the value of a perfect model.
        videos: Number of videos in each set.
    """

    distance: float
    reference: float
    videos: int
    extractor: str = EXTRACTOR


def flicker(videos: Pixels) -> float:
    """Compute the mean absolute second difference of frames in 0..1: change that the next frame reverts.

    VBench's temporal flickering (arXiv 2311.17982, §3) is the first difference, which steady motion raises as
    well; the second difference is zero for a steady fade and small for steady motion. Lower is not better: a
    still video has 0. A value close to that of the real clips is good.

    Raises:
        MobiusError: If a video has fewer than 3 frames.
    """
    _check(videos, frames=3)
    return float(np.abs(np.diff(_unit(videos), n=2, axis=1)).mean())


def dynamic_degree(videos: Pixels) -> float:
    """Compute the mean absolute difference of consecutive frames in 0..1: the amount of motion.

    VBench's dynamic degree (arXiv 2311.17982, §3) uses optical flow from RAFT; this is a simple substitute
    for a fixed camera, and the complement of VBench's flickering score. A still has too little, noise too
    much: a value close to that of the real clips is good.

    Raises:
        MobiusError: If a video has fewer than 2 frames.
    """
    _check(videos, frames=2)
    return float(np.abs(np.diff(_unit(videos), axis=1)).mean())


def _unit(videos: Pixels) -> npt.NDArray[np.float32]:
    return np.asarray(videos, dtype=np.float32) / np.float32(255)


def _check(videos: Pixels, frames: int) -> None:
    if videos.ndim != 5 or videos.shape[-1] != 3 or videos.shape[1] < frames or len(videos) == 0:
        raise MobiusError(
            f"Videos of shape {videos.shape} cannot be measured: there must be at least one, uint8 "
            f"(videos, frames, height, width, 3) with at least {frames} frames. Sample more videos or frames."
        )


def video_features(videos: Pixels, encode: Encode) -> Tensor:
    """Describe each video by where its latent channels are strong, and where they change.

    "vae-spacetime-pool": the VAE's posterior mean, averaged over time and to 2 x 2 cells, then the same of
    the absolute differences between neighbouring frames. The VAE is the base's own, so distances are
    comparable within one base only, and not with a published FVD (I3D features).

    Args:
        videos: uint8 (N, F, H, W, 3), with at least two frames.
        encode: Returns the frames' posterior means, uint8 (F, H, W, 3) -> (F, C, h, w).

    Returns:
        float64 (N, 8 C): the first half is appearance, the second half motion.
    """
    _check(videos, frames=2)
    return torch.stack([latent_features(encode(video)) for video in videos])


def latent_features(latents: Tensor) -> Tensor:
    """Compute the features of a video from its posterior means: (F, C, h, w) -> float64 (8 C,)."""
    latents = latents.detach().double().cpu()
    parts = (latents, latents.diff(dim=0).abs())
    return torch.cat([functional.adaptive_avg_pool2d(part.mean(dim=0), _POOLED).flatten() for part in parts])


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Compute the Fréchet distance between Gaussians fitted to two sets of features, (N, D) and (M, D).

    Heusel et al. 2017 (arXiv 1706.08500), equation 6, by torchmetrics, in float64. It is biased upwards for
    small sets (Chong and Forsyth 2020, arXiv 1911.07023): with N near or below D even two samples of one
    distribution are far apart, so compare sets of the same size; see `compare_to_real`.

    Raises:
        MobiusError: If a set has fewer than two features, or the sizes of a feature differ.
    """
    sizes = features_a.shape, features_b.shape
    if features_a.shape[1:] != features_b.shape[1:] or min(len(features_a), len(features_b)) < 2:
        raise MobiusError(
            f"No Fréchet distance between features of shapes {sizes[0]} and {sizes[1]}: each set needs at "
            "least two videos, and both the same extractor. Sample or hold out more videos."
        )
    metric = FrechetInceptionDistance(feature=_Given(features_a.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(features_a.double(), real=True)
    metric.update(features_b.double(), real=False)
    return max(0.0, float(metric.compute()))  # rounding can leave it a little below zero


class _Given(nn.Module):
    """Identity extractor: torchmetrics receives precomputed features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def compare_to_real(sampled: Tensor, real: Tensor, *, seed: int) -> FrechetComparison | None:
    """Compare the distance of sampled to real features with that of real to other real features.

    Both are computed on sets of one size, so both have the small-sample bias; it is not removed.

    Args:
        sampled: Features of sampled videos, (N, D).
        real: Features of real videos, (M, D), best with M >= 2 N: half of them are the reference.
        seed: Seed for drawing the real halves.

    Returns:
        The comparison, or None with fewer than two sampled or four real videos.
    """
    count = min(len(sampled), len(real) // 2)
    if count < 2:
        return None
    drawn = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))]
    half, other = drawn[:count], drawn[count : 2 * count]
    return FrechetComparison(
        distance=frechet_distance(half, sampled[:count]),
        reference=frechet_distance(half, other),
        videos=count,
    )
