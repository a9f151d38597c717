"""Quality of a set of videos, and of reference videos to compare it with.

Videos are uint8 (N, F, H, W, 3).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import load_vae, posterior_moments, to_unit
from mobius_pipeline.evaluation.attributes import scores
from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.evaluation.video_metrics import (
    Encode,
    compare_to_real,
    dynamic_degree,
    flicker,
    latent_features,
    video_features,
)
from mobius_pipeline.ingest.split import HELDOUT, TRAIN
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.runtime.progress import track


def vae_encoder(base: BaseModel, device: str) -> Encode:
    """Build the feature extractor of the Fréchet distance: the base model's own VAE, frame by frame."""
    vae = load_vae(base.folder).to(device)

    def encode(frames: Pixels) -> Tensor:
        unit = to_unit(torch.from_numpy(np.ascontiguousarray(frames)).to(device))
        return posterior_moments(vae, unit)[0].cpu()

    return encode


def load_videos(raw_clips: Path, paths: Sequence[str], clip: ClipFormat, title: str) -> Pixels:
    """Decode the clips `paths` below `raw_clips`: uint8 (N, F, H, W, 3).

    Raises:
        MediaError: If a clip is missing, damaged or too short.
    """
    return np.stack([load_clip(raw_clips / path, clip) for path in track(paths, title, len(paths), "clips")])


def reference_features(store: LatentsStore, limit: int) -> Tensor:
    """Compute the features of real clips to compare samples with, from their latents: float64 (M, 8 C).

    Args:
        store: The latents store; clips with fewer frames than samples are left out.
        limit: Maximal number of clips: held-out clips first, then training clips.
    """
    clips = [*store.clips(HELDOUT), *store.clips(TRAIN)]
    long_enough = [clip for clip in clips if clip.frames >= store.clip.frames][:limit]
    features = [latent_features(store.moments(clip)[0].transpose(0, 1)) for clip in long_enough]
    return torch.stack(features) if features else torch.empty(0, 0)


def quality(videos: Pixels, prompts: Sequence[str], real: Tensor, encode: Encode, seed: int) -> Quality:
    """Measure the quality of a set of videos.

    Args:
        videos: One video per prompt, in the same order.
        prompts: The prompts.
        real: Features of real clips, (M, D).
        encode: The extractor of these features.
        seed: Seed for drawing the real clips of the Fréchet distance.
    """
    frechet = compare_to_real(video_features(videos, encode), real, seed=seed)
    return Quality(
        **scores(list(videos), list(prompts)),
        frechet=frechet.distance if frechet else None,
        frechet_real=frechet.reference if frechet else None,
        frechet_videos=frechet.videos if frechet else 0,
        frechet_extractor=frechet.extractor if frechet else None,
        flicker=flicker(videos) if videos.shape[1] > 2 else None,
        dynamic_degree=dynamic_degree(videos),
    )


def references(
    real: Pixels, others: Pixels, prompts: Sequence[str], features: Tensor, encode: Encode, seed: int
) -> dict[str, Quality]:
    """Measure the reference videos of prompts: real clips, their first frames repeated, unrelated clips.

    Args:
        real: The clip of each prompt, uint8 (N, F, H, W, 3).
        others: As many unrelated clips, of the same shape.
        prompts: The N prompts.
        features: Features of real clips, float64 (M, D), for the Fréchet distance.
        encode: The extractor of these features.
        seed: Seed for drawing the real clips of the Fréchet distance.

    Returns:
        The scores of `real`, `still` and `random`.
    """
    still = np.repeat(real[:, :1], real.shape[1], axis=1)
    sets = {"real": real, "still": still, "random": others}
    return {name: quality(videos, prompts, features, encode, seed) for name, videos in sets.items()}
