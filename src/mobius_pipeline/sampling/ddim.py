"""DDIM sampling (Song et al. 2021) with classifier-free guidance (Ho & Salimans 2022).

Shapes: `B` videos, (B, C, F, h, w) latents, (B, L, D) text.
"""

from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn


def first_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise, (B, *shape): each video's from its own seed, whatever the batch."""
    return torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def guided_ddim(
    model: nn.Module,
    scheduler: DDIMScheduler,
    noise: Tensor,
    text: Tensor,
    no_text: Tensor,
    guidance_scale: float,
) -> Tensor:
    """Denoise `noise` to latents.

    The guided prediction is `p(no text) + guidance_scale * (p(text) - p(no text))`.

    Args:
        model: Called as `UNet3DConditionModel`.
        scheduler: With its timesteps set.
        noise: (B, C, F, h, w).
        text: (B, L, D).
        no_text: (L, D).
        guidance_scale: 1 leaves the guidance out.

    Returns:
        Scaled latents, (B, C, F, h, w).
    """
    latents = noise * scheduler.init_noise_sigma
    both = torch.cat([no_text.expand_as(text), text])
    for timestep in scheduler.timesteps.to(noise.device):
        prediction = model(torch.cat([latents, latents]), timestep, both, return_dict=False)[0]
        unguided, guided = prediction.chunk(2)
        prediction = unguided + guidance_scale * (guided - unguided)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents  # type: ignore[no-any-return]
