"""The quality of a set of videos, and of the references that put it into proportion.

Videos are uint8 (N, F, H, W, 3).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobius_pipeline.base_model.load import load_vae, posterior_moments, to_unit
from mobius_pipeline.evaluation.attributes import scores
from mobius_pipeline.evaluation.video_metrics import (
    Encode,
    Pixels,
    compare_to_real,
    dynamic_degree,
    flicker,
    latent_features,
    video_features,
)
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.progress import track


def vae_encoder(base: Path) -> Encode:
    """What the Fréchet distance sees of a video: the base model's own VAE, frame by frame."""
    vae = load_vae(base)

    def encode(frames: Pixels) -> Tensor:
        return posterior_moments(vae, to_unit(torch.from_numpy(np.ascontiguousarray(frames))))[0]

    return encode


def load_videos(raw_clips: Path, paths: Sequence[str], clip: ClipFormat, title: str) -> Pixels:
    """Decode clips, (N, F, H, W, 3)."""
    return np.stack([load_clip(raw_clips / path, clip) for path in track(paths, title, len(paths), "clips")])


def reference_features(store: LatentsStore, limit: int) -> Tensor:
    """Features of the real clips that samples are compared with, from their latents: float64 (M, 8 C).

    Args:
        store: The latents; clips of fewer frames than samples have are left out.
        limit: How many clips at most: held-out ones first, then those that were trained on.
    """
    clips = [*store.clips("heldout"), *store.clips("train")]
    long_enough = [clip for clip in clips if clip.frames >= store.clip.frames][:limit]
    features = [latent_features(store.moments(clip)[0].transpose(0, 1)) for clip in long_enough]
    return torch.stack(features) if features else torch.empty(0, 0)


def quality(
    videos: Pixels, prompts: Sequence[str], real: Tensor, encode: Encode, seed: int
) -> dict[str, Any]:
    """Measure a set of videos.

    Args:
        videos: The videos, each for the prompt at its place.
        prompts: The prompts.
        real: Features of real clips, (M, D).
        encode: The extractor that gave them.
        seed: Of the draw of the real clips that the Fréchet distance takes.

    Returns:
        Shares of videos that show their prompt's colour, shape, motion and all of them (None where the
        prompts are not of the sample clips' kind), Fréchet distance with its real-to-real reference,
        flicker (None below 3 frames), dynamic degree (None below 2).
    """
    frechet = compare_to_real(video_features(videos, encode), real, seed=seed)
    return {
        **scores(list(videos), list(prompts)),
        "frechet": frechet.distance if frechet else None,
        "frechet_real": frechet.reference if frechet else None,
        "frechet_videos": frechet.videos if frechet else 0,
        "frechet_extractor": frechet.extractor if frechet else None,
        "flicker": flicker(videos) if videos.shape[1] > 2 else None,
        "dynamic_degree": dynamic_degree(videos) if videos.shape[1] > 1 else None,
    }


def references(
    real: Pixels, others: Pixels, prompts: Sequence[str], features: Tensor, encode: Encode, seed: int
) -> dict[str, dict[str, Any]]:
    """What the real clips, their first frames held still, and unrelated clips score for the same prompts."""
    still = np.repeat(real[:, :1], real.shape[1], axis=1)
    sets = {"real": real, "still": still, "random": others}
    return {name: quality(videos, prompts, features, encode, seed) for name, videos in sets.items()}
