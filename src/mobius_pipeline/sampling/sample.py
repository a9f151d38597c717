"""Sampling of videos from prompts, and their files.

Shapes: `N` prompts, `B` of them in a batch, `F` frames of `H` x `W` px, latents (B, C, F, h, w).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from mobius_pipeline.base_model.load import decode
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip_format import ClipSize
from mobius_pipeline.media.grid import grid
from mobius_pipeline.media.write import write_gif, write_mp4
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.runtime.files import atomic_folder, write_json
from mobius_pipeline.runtime.progress import stage
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.sampling.sample_set import FRAMES, GRID, LISTING, Sample, SampleSet

log = logging.getLogger(__name__)


def first_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise, (B, *shape); each video's depends only on its own seed."""
    return torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sample_frames(
    pipe: MobiusTextToVideoPipeline,
    prompts: Sequence[str],
    size: ClipSize,
    *,
    seed: int,
    steps: int,
    guidance_scale: float,
    batch_size: int,
) -> Iterator[Tensor]:
    """Sample a video for each prompt, the i-th from the noise of `seed` + i.

    Args:
        pipe: The pipeline, on the device to run on.
        prompts: N prompts.
        size: Frames, height and width in px.
        seed: Seed of the first prompt's noise.
        steps: DDIM steps.
        guidance_scale: Scale of classifier-free guidance; 1 turns it off.
        batch_size: B, videos that are sampled together.

    Yields:
        The videos of a batch, uint8 (B, F, H, W, 3).
    """
    scale = pipe.vae_scale_factor
    shape = (pipe.unet.config.in_channels, size.frames, size.height // scale, size.width // scale)
    pipe.set_progress_bar_config(disable=True)  # stages and trainings show their own
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        (latents,) = pipe(
            batch,
            num_frames=size.frames,
            latents=first_noise([seed + start + i for i in range(len(batch))], shape),
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            output_type="latent",
            return_dict=False,
        )
        yield decode(pipe.vae, latents)


def choose_prompts(store: LatentsStore, config: SampleConfig) -> list[tuple[str, str | None]]:
    """Choose the prompts, each with the path of the real clip that it captions, if any."""
    if config.prompts is not None:
        return [(prompt, None) for prompt in config.prompts]
    clips = store.clips(config.split)
    if len(clips) < config.count:
        log.warning(
            "Only %d clips in the split %s: all of them are sampled, instead of %d.",
            len(clips),
            config.split,
            config.count,
        )
    long_enough = store.clip.frames  # clips of shorter buckets are not shown beside a sample
    return [
        (clip.caption, clip.path if clip.frames >= long_enough else None) for clip in clips[: config.count]
    ]


def sample_videos(
    pipe: MobiusTextToVideoPipeline, store: LatentsStore, config: SampleConfig, fps: float, target: Path
) -> SampleSet:
    """Sample a video for each prompt and write them to `target`.

    Writes an mp4 and a gif per sample, the frames of all as safetensors (uint8, (N, F, H, W, 3)), and
    `grid.png` with one row per prompt.

    Args:
        pipe: The pipeline.
        store: The latents store, for the clips' size and captions.
        config: Prompts and sampling settings.
        fps: Frames per second of the files.
        target: The folder to write; it is replaced.

    Returns:
        The sample set in `target`.
    """
    prompts = choose_prompts(store, config)
    frames = _all_frames([prompt for prompt, _ in prompts], pipe.to(config.device), store, config)
    large = frames.repeat_interleave(config.magnify, 2).repeat_interleave(config.magnify, 3).numpy()
    with atomic_folder(target) as partial:
        samples = []
        for i, ((prompt, clip), video) in enumerate(zip(prompts, large, strict=True)):
            samples.append(Sample(prompt, config.seed + i, f"{i:03d}.mp4", f"{i:03d}.gif", clip))
            write_mp4(partial / samples[-1].mp4, video, fps)
            write_gif(partial / samples[-1].gif, video, fps)
        Image.fromarray(grid(list(large))).save(partial / GRID)
        save_file({"frames": frames}, partial / FRAMES)
        write_json(partial / LISTING, [asdict(sample) for sample in samples])
    return SampleSet(target)


def _all_frames(
    prompts: Sequence[str], pipe: MobiusTextToVideoPipeline, store: LatentsStore, config: SampleConfig
) -> Tensor:
    """Sample all prompts, uint8 (N, F, H, W, 3), with a progress bar."""
    videos: list[Tensor] = []
    with stage("sample", len(prompts), "videos") as bar:
        for batch in sample_frames(
            pipe,
            prompts,
            store.clip,
            seed=config.seed,
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            batch_size=config.batch_size,
        ):
            videos.append(batch)
            bar.advance(len(batch))
    return torch.cat(videos)
