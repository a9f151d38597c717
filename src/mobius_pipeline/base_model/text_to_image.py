"""A small text-conditioned `UNet2DConditionModel`, trained on frames of clips in latent space."""

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from mobius_pipeline.base_model.config import TextToImageConfig
from mobius_pipeline.base_model.fit import fit
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.runtime.rng import generator


def build_scheduler(prediction_type: str) -> DDPMScheduler:
    """Return Stable Diffusion's schedule; with v-prediction it ends in pure noise (Lin et al. 2024).

    With a schedule that keeps some signal at its end, a model cannot learn to draw wholly dark or bright
    images.
    """
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type == "v_prediction",
        timestep_spacing="trailing",
    )


def build_unet(
    config: TextToImageConfig, latent_channels: int, size: int, text_width: int
) -> UNet2DConditionModel:
    """Build a small UNet in Stable Diffusion's layout."""
    levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        attention_head_dim=config.heads,
        norm_num_groups=config.norm_groups,
        cross_attention_dim=text_width,
        use_linear_projection=True,
    )


def spread_timesteps(count: int, timesteps: int, rng: torch.Generator) -> Tensor:
    """Draw one timestep from each of `count` equal parts of the schedule, (count,): batches vary less."""
    return ((torch.arange(count) + torch.rand(count, generator=rng)) / count * timesteps).long()


def train_text_to_image(
    latents: Tensor,
    captions: Tensor,
    embeddings: Tensor,
    no_text: Tensor,
    scheduler: DDPMScheduler,
    config: TextToImageConfig,
    seed: int,
    device: str,
) -> UNet2DConditionModel:
    """Train a T2I UNet and return it with its EMA weights.

    Args:
        latents: Scaled latents of frames, (N, C, h, w).
        captions: The row of `embeddings` that belongs to each frame, (N,).
        embeddings: Text embeddings of the distinct captions, (M, L, D).
        no_text: Embedding of the empty caption, (L, D).
        scheduler: Noise schedule and prediction type.
        config: Sizes and steps.
        seed: Seed of the initial weights and of all draws.
        device: Device to train on.
    """
    objective = Objective(scheduler, min_snr_gamma=None, zero_terminal_snr=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = build_unet(config, latents.shape[1], latents.shape[-1], embeddings.shape[-1]).to(device)
    ema = EMAModel(unet.parameters(), decay=config.ema_decay, foreach=True)

    def loss_at(step: int) -> Tensor:
        rng = generator("text-to-image", seed, step)
        chosen = torch.randint(len(latents), (config.fit.batch_size,), generator=rng)
        timestep = spread_timesteps(len(chosen), objective.timesteps, rng).to(device)
        noise = torch.randn(len(chosen), *latents.shape[1:], generator=rng).unsqueeze(2).to(device)
        dropped = torch.rand(len(chosen), generator=rng) < config.caption_dropout
        text = torch.where(dropped[:, None, None], no_text, embeddings[captions[chosen]]).to(device)
        clean = latents[chosen].unsqueeze(2).to(device)  # a clip of one frame: (N, C, 1, h, w)
        noisy = objective.add_noise(clean, noise, timestep).squeeze(2)
        prediction = unet(noisy, timestep, text, return_dict=False)[0].unsqueeze(2)
        return objective.loss(prediction, objective.target(clean, noise, timestep), timestep).mean()

    fit("base: text-to-image", unet.parameters(), loss_at, config.fit, lambda: ema.step(unet.parameters()))
    ema.copy_to(unet.parameters())
    return unet.requires_grad_(False).eval()
