"""The base model's parts, from a T2I directory in diffusers format.

Shapes: `N` images, `F` frames, `C` latent channels, `h w` latent size, `L` text tokens, `D` text width.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import digest, folder_digest, read_json
from mobius_pipeline.models.text import encode_text

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


def check_base(folder: Path) -> None:
    """Check that `folder` is a T2I model in diffusers format.

    Raises:
        MobiusError: If a part is missing, with the layout that is expected.
    """
    missing = [name for name in ("model_index.json", *PARTS) if not (folder / name).exists()]
    if missing:
        raise MobiusError(
            f"{folder} is not a T2I model in diffusers format: it lacks {', '.join(missing)}. "
            f"Name a directory that `DiffusionPipeline.save_pretrained` wrote, with {', '.join(PARTS)}."
        )


def quiet_loading() -> None:
    """Keep transformers' and diffusers' progress bars out of the stages' own."""
    for library in (transformers.utils.logging, diffusers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity_error()


def load_vae(folder: Path) -> AutoencoderKL:
    """Load the VAE, float32, frozen, in eval mode."""
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    return vae.requires_grad_(False).eval()


def load_scheduler(folder: Path) -> DDPMScheduler:
    """Load the noise schedule that the T2I model was trained with."""
    return DDPMScheduler.from_pretrained(folder / "scheduler")


def base_fingerprint(folder: Path) -> str:
    """Digest of every file of the base model."""
    return folder_digest(folder)


def encoder_fingerprint(folder: Path, preprocessing: dict[str, Any], store_version: int) -> str:
    """Digest of what decides the latents: VAE and text encoder, preprocessing, store version."""
    parts = {name: folder_digest(folder / name) for name in ("vae", "text_encoder", "tokenizer")}
    return digest({**parts, "preprocessing": preprocessing, "store": store_version})


class TextEncoder:
    """The frozen text encoder: captions in, (N, L, D) out, L being the tokenizer's `model_max_length`."""

    def __init__(self, folder: Path, device: str) -> None:
        """Load tokenizer and encoder with the classes that `model_index.json` names."""
        quiet_loading()
        names = read_json(folder / "model_index.json")
        tokenizer = getattr(transformers, names["tokenizer"][1])
        encoder = getattr(transformers, names["text_encoder"][1])
        self._tokenizer = tokenizer.from_pretrained(folder / "tokenizer")
        self._encoder = (
            encoder.from_pretrained(folder / "text_encoder", dtype=torch.float32).to(device).eval()
        )

    def __call__(self, captions: list[str]) -> Tensor:
        """Encode captions, cut or padded to L tokens."""
        return encode_text(self._tokenizer, self._encoder, captions)

    def too_long(self, captions: list[str]) -> int:
        """How many captions have more tokens than L and are cut."""
        limit = self._tokenizer.model_max_length
        return sum(len(self._tokenizer(caption).input_ids) > limit for caption in captions)


@torch.no_grad()
def posterior_moments(vae: AutoencoderKL, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the VAE's posterior, unscaled.

    Args:
        vae: The VAE.
        frames: (N, 3, H, W) in [-1, 1].

    Returns:
        Two tensors of (N, C, h, w).
    """
    posterior = vae.encode(frames).latent_dist
    return posterior.mean, posterior.logvar


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode scaled latents of clips to pixels, a clip at a time.

    Args:
        vae: The VAE.
        latents: (B, C, F, h, w), multiplied by `vae.config.scaling_factor`.

    Returns:
        uint8 frames, (B, F, H, W, 3).
    """
    clips = []
    for clip in latents:
        images = vae.decode(clip.transpose(0, 1) / vae.config.scaling_factor).sample
        clips.append(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return torch.stack(clips)


def to_unit(frames: Tensor) -> Tensor:
    """uint8 frames (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1
