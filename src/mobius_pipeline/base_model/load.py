"""Loading of the base model's parts from a directory in diffusers' format.

Shapes: `N` images, `F` frames, `C` latent channels, `h w` latent size, `L` text tokens, `D` text width.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor

from mobius_pipeline.base_model.settings import MOST_TOKENS, check_scheduler, check_vae, read_index
from mobius_pipeline.models.text import encode_text
from mobius_pipeline.models.weights import load_exactly
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import digest, folder_digest


def quiet_loading() -> None:
    """Turn off the progress bars and warnings of transformers and diffusers."""
    for library in (transformers.utils.logging, diffusers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity_error()


def load_vae(folder: Path) -> AutoencoderKL:
    """Load the VAE in float32, frozen and in eval mode.

    Raises:
        MobiusError: If it is of another class, scales latents in an unsupported way, or its weights do not
            match its configuration.
    """
    check_vae(folder / "vae")
    vae: AutoencoderKL = load_exactly(
        AutoencoderKL, folder / "vae", "diffusion_pytorch_model", torch_dtype=torch.float32
    )
    return vae.requires_grad_(False).eval()


def load_scheduler(folder: Path) -> DDPMScheduler:
    """Load the noise schedule that the T2I model was trained with.

    Raises:
        MobiusError: If it is not a discrete schedule of betas.
    """
    check_scheduler(folder / "scheduler")
    return DDPMScheduler.from_pretrained(folder / "scheduler")


def base_fingerprint(folder: Path) -> str:
    """Return the digest of all files of the base model; it is cached until one of them changes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    state = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _digest_of(folder, state)


@lru_cache(maxsize=8)
def _digest_of(folder: Path, _state: tuple[tuple[Path, int, int], ...]) -> str:
    return folder_digest(folder)


def encoder_fingerprint(folder: Path, preprocessing: dict[str, Any], store_version: int) -> str:
    """Return the digest of what determines the latents: VAE, text encoder, preprocessing, store version."""
    parts = {name: folder_digest(folder / name) for name in ("vae", "text_encoder", "tokenizer")}
    return digest({**parts, "preprocessing": preprocessing, "store": store_version})


class TextEncoder:
    """The frozen text encoder: captions -> (N, L, D), where L is the tokenizer's `model_max_length`."""

    def __init__(self, folder: Path, device: str) -> None:
        """Load tokenizer and encoder with the classes that `model_index.json` names.

        Raises:
            MobiusError: If they cannot be loaded, the weights do not match the configuration, or the
                tokenizer has no maximal length.
        """
        quiet_loading()
        self._tokenizer = _tokenizer(folder)
        encoder = load_exactly(
            _class_of(folder, "text_encoder"), folder / "text_encoder", "model", dtype=torch.float32
        )
        self._encoder = encoder.to(device).eval()

    def __call__(self, captions: list[str]) -> Tensor:
        """Encode captions, truncated or padded to L tokens: (N, L, D)."""
        return encode_text(self._tokenizer, self._encoder, captions)

    def too_long(self, captions: list[str]) -> int:
        """Return how many captions have more than L tokens and are truncated."""
        limit = self._tokenizer.model_max_length
        return sum(len(self._tokenizer(caption).input_ids) > limit for caption in captions)


def _tokenizer(folder: Path) -> Any:
    place = folder / "tokenizer"
    try:
        tokenizer = _class_of(folder, "tokenizer").from_pretrained(place)
    except Exception as error:  # libraries raise any error of their readers
        raise MobiusError(f"Cannot load the tokenizer in {place}: {error}") from error
    if tokenizer.model_max_length > MOST_TOKENS:
        raise MobiusError(
            f"{place}/tokenizer_config.json has no model_max_length: captions would have no fixed length. "
            "Set it to the text encoder's, 77 for CLIP."
        )
    if tokenizer.pad_token is None:
        raise MobiusError(
            f"{place} has no pad_token: set one in tokenizer_config.json, such as the end token for CLIP."
        )
    return tokenizer


def _class_of(folder: Path, part: str) -> type[Any]:
    """Return the transformers class that `model_index.json` names for a part."""
    entry = read_index(folder).get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    found = getattr(transformers, str(name), None)
    if not isinstance(found, type):
        raise MobiusError(
            f"{folder}/model_index.json names {entry} as {part}; a class of transformers is needed, such as "
            f'["transformers", "{"CLIPTextModel" if part == "text_encoder" else "CLIPTokenizer"}"].'
        )
    return found


@torch.no_grad()
def posterior_moments(vae: AutoencoderKL, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and log-variance of the VAE's posterior, without scaling.

    Args:
        vae: The VAE.
        frames: (N, 3, H, W) in [-1, 1].

    Returns:
        Mean and log-variance, each (N, C, h, w).
    """
    posterior = vae.encode(frames).latent_dist
    return posterior.mean, posterior.logvar


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode scaled latents of clips to pixels, one clip at a time.

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
    """Convert uint8 frames (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1
