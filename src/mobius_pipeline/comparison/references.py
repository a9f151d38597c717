"""Score real, still and random clips for the samples' prompts, and write the real clips as videos."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.model import RealVideo, References
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.evaluation.quality import load_videos, reference_features, references, vae_encoder
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.runtime.files import atomic_folder
from mobius_pipeline.sampling.sample_set import Sample, SampleSet


def measure_references(
    samples: SampleSet, store: LatentsStore, raw_clips: Path, base: BaseModel, config: EvaluateConfig
) -> References:
    """Score real, still and random clips for the samples' prompts; no scores if no prompt has a real clip.

    Args:
        samples: Samples whose prompts are used.
        store: Latents of the clips, with the clip format; the Fréchet distance is computed on their features.
        raw_clips: Folder of the clips.
        base: Base model, whose VAE is the feature extractor.
        config: Seed and size of the reference set, and the VAE's device.

    Raises:
        MobiusError: If a clip cannot be read.
    """
    with_clip = [(sample.prompt, clip) for sample, clip in _real_clips(samples, store) if clip is not None]
    if not with_clip:
        return References()
    prompts, paths = [prompt for prompt, _ in with_clip], [clip for _, clip in with_clip]
    drawn = _drawn(_long_enough(store), len(paths), config.seed)
    scored = references(
        load_videos(raw_clips, paths, store.clip, "compare: prompts' clips"),
        load_videos(raw_clips, drawn, store.clip, "compare: random clips"),
        prompts,
        reference_features(store, config.reference_clips),
        vae_encoder(base, config.device),
        config.seed,
    )
    return References(**scored)


def write_real_videos(
    samples: SampleSet, store: LatentsStore, raw_clips: Path, magnify: int, target: Path
) -> Path:
    """Write the real clip of each sample's prompt as an mp4 file, enlarged and with the sample's file name.

    Raises:
        MobiusError: If a clip cannot be read.
    """
    with atomic_folder(target) as partial:
        for sample, clip in _real_clips(samples, store):
            if clip is not None:
                frames = load_clip(raw_clips / clip, store.clip).repeat(magnify, 1).repeat(magnify, 2)
                write_mp4(partial / sample.mp4, frames, store.clip.rate)
    return target


def real_videos(samples: SampleSet, videos: Path, media: Path) -> list[RealVideo]:
    """Return the videos that `write_real_videos` wrote, one per sample, with paths relative to `media`."""
    place = os.path.relpath(videos, media)
    return [
        RealVideo(
            prompt=sample.prompt,
            mp4=f"{place}/{sample.mp4}" if (videos / sample.mp4).is_file() else None,
        )
        for sample in samples.samples
    ]


def _real_clips(samples: SampleSet, store: LatentsStore) -> list[tuple[Sample, str | None]]:
    """Return each sample with the path of its prompt's real clip, None if the store does not have it."""
    known = set(store.paths)
    return [(sample, sample.clip if sample.clip in known else None) for sample in samples.samples]


def _long_enough(store: LatentsStore) -> list[str]:
    """Return the paths of the clips with as many frames as the samples, without those of shorter buckets."""
    index = store.index
    is_long = (index["clip_id"] != "") & (index["frames"] >= store.clip.frames)
    return [str(path) for path in index["path"][is_long]]


def _drawn(paths: Sequence[str], count: int, seed: int) -> list[str]:
    """Return `count` of the paths, drawn at random."""
    drawn = np.random.default_rng(seed).choice(np.array(paths), count, replace=count > len(paths))
    return [str(path) for path in drawn]
