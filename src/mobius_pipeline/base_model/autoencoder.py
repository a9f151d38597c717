"""A small `AutoencoderKL`, trained on the frames of clips.

Shapes: `N` frames, (N, 3, H, W) in [-1, 1].
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from mobius_pipeline.base_model.config import AutoencoderConfig
from mobius_pipeline.base_model.fit import fit
from mobius_pipeline.runtime.rng import generator

_FIRST_LOG_VARIANCE = -6.0  # with a posterior as wide as the prior, noise would dominate the first steps


def train_autoencoder(frames: Tensor, config: AutoencoderConfig, seed: int, device: str) -> AutoencoderKL:
    """Train a VAE on `frames` (uint8, (N, 3, H, W)) and set its scaling factor to 1 / latents' std.

    The first steps see crops in shuffled, dimmed and inverted colours. On plain backgrounds the network
    otherwise learns brightness first, and colour and shape much later.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = _build(config, frames.shape[-1]).to(device)
    vae.to(memory_format=torch.channels_last)
    steps = config.fit.steps

    def loss_at(step: int) -> Tensor:
        rng = generator("autoencoder", seed, step)
        chosen = torch.randint(len(frames), (config.fit.batch_size,), generator=rng)
        images = frames[chosen].float() / 127.5 - 1
        if step < config.crop_share * steps:
            images = crop_content(images, min(frames.shape[-2:]) // 2, rng)
        if step < config.colour_jitter_share * steps:
            images = jitter_colours(images, rng)
        images = images.contiguous(memory_format=torch.channels_last).to(device)
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(device)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        divergence: Tensor = posterior.kl().mean() / images[0].numel()
        return reconstruction_error(decoded, images) + config.kl_weight * divergence

    fit("base: autoencoder", vae.parameters(), loss_at, config.fit)
    vae.register_to_config(scaling_factor=1 / _latents_std(vae, frames, device))
    return vae.requires_grad_(False).eval()


def reconstruction_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Return L1 plus L2 of two batches of images, (N, 3, H, W), plus twice that of their chroma; a scalar."""
    error = decoded - images
    colour = error - error.mean(dim=1, keepdim=True)
    whole: Tensor = error.abs().mean() + error.square().mean()
    return whole + 2 * (colour.abs().mean() + colour.square().mean())


def crop_content(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Crop a square of `size` px around a pixel that differs from the image's corner, (N, 3, size, size).

    On plain backgrounds most of an image is empty; a crop around its content costs a quarter of it.
    """
    height, width = images.shape[-2:]
    assert size <= min(height, width)
    content = (images - images[:, :, :1, :1]).abs().sum(1).flatten(1) + 1e-3
    centre = torch.multinomial(content, 1, generator=rng).squeeze(1)
    tops = (centre // width - size // 2).clamp(0, height - size).tolist()
    lefts = (centre % width - size // 2).clamp(0, width - size).tolist()
    return torch.stack(
        [image[:, y : y + size, x : x + size] for image, y, x in zip(images, tops, lefts, strict=True)]
    )


def jitter_colours(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shuffle the colour channels of each image, and randomly invert and dim each; (N, 3, H, W)."""
    order = torch.rand(len(images), 3, generator=rng).argsort(1)[:, :, None, None].expand_as(images)
    sign = torch.randint(2, (len(images), 3, 1, 1), generator=rng) * 2 - 1
    strength = 0.5 + 0.5 * torch.rand(len(images), 3, 1, 1, generator=rng)
    return images.gather(1, order) * sign * strength


def _build(config: AutoencoderConfig, size: int) -> AutoencoderKL:
    levels = len(config.channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=size,
        mid_block_add_attention=False,
    )
    torch.nn.init.constant_(vae.quant_conv.bias.data[config.latent_channels :], _FIRST_LOG_VARIANCE)
    return vae


@torch.no_grad()
def _latents_std(vae: AutoencoderKL, frames: Tensor, device: str) -> float:
    some = frames[:: max(1, len(frames) // 256)]
    means = [
        vae.encode((part.float() / 127.5 - 1).to(device)).latent_dist.mean for part in torch.split(some, 32)
    ]
    return torch.cat(means).std().item()
