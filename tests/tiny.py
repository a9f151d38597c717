"""Tiny models, clips and configurations, which run in seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from mobius_pipeline.base_model.text_to_image import build_scheduler
from mobius_pipeline.base_model.train import write_text_encoder
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.models.variant import Mode, Variant
from mobius_pipeline.training.config import TrainConfig

PARALLEL = Variant("parallel", tail=1, width=0.5)
CLIP = ClipFormat(frames=4, height=16, width=16, fps=8)


def unet(**changes: Any) -> UNet2DConditionModel:
    """A T2I UNet of two levels, with random weights from a fixed seed."""
    settings: dict[str, Any] = {
        "sample_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 384,
        "attention_head_dim": (2, 4),
        "norm_num_groups": 4,
        "use_linear_projection": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(**settings | changes)


def move(model: nn.Module) -> nn.Module:
    """Move a model away from its initialisation, in which last layers are zero and get all gradients."""
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=source, dtype=parameter.dtype))
    return model


def vae() -> AutoencoderKL:
    """A VAE that makes 4 x 4 latents of 16 x 16 px, with random weights from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(4, 8, 8),
            latent_channels=4,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )


def write_base(folder: Path) -> Path:
    """A T2I directory in diffusers format."""
    write_text_encoder(folder, tokens=12)
    vae().save_pretrained(folder / "vae")
    unet().save_pretrained(folder / "unet")
    build_scheduler("v_prediction").save_pretrained(folder / "scheduler")
    return folder


def encode_config(**changes: Any) -> EncodeConfig:
    settings: dict[str, Any] = {
        "clips_per_shard": 8,
        "frames_per_batch": 8,
        "device": "cpu",
        "gpus": 0,
        "retries": 1,
        "remove_orphans": False,
    }
    return EncodeConfig(**settings | changes)


def train_config(**changes: Any) -> TrainConfig:
    """A training of a few steps."""
    settings: dict[str, Any] = {
        "seed": 0,
        "steps": 6,
        "equal_compute": False,
        "batch_size": 2,
        "gradient_accumulation_steps": 1,
        "num_processes": 1,
        "rendezvous": None,
        "objective": {
            "min_snr_gamma": 5.0,
            "noise_offset": 0.1,
            "zero_terminal_snr": False,
            "caption_dropout": 0.5,
        },
        "optimizer": {
            "learning_rate": 1e-3,
            "scaling": None,
            "schedule": "constant_with_warmup",
            "betas": (0.9, 0.99),
            "weight_decay": 0.01,
            "warmup_steps": 3,
            "max_grad_norm": 1.0,
            "state_bits": 32,
        },
        "autocast": None,
        "ema_decay": 0.9,
        "ema_warmup_power": None,
        "evaluate_every": 3,
        "evaluate_clips": 2,
        "evaluate_timesteps": 4,
        "previews": None,
        "checkpoint_every": 2,
        "keep_last": 2,
        "keep_every": None,
        "on_mismatch": "restart",
        "timer_warmup": 1,
        "device": "cpu",
    }
    return TrainConfig(**settings | changes)


def variant(mode: Mode, **options: Any) -> Variant:
    """Return a model of a mode; parallel has a tail and a stream."""
    return replace(PARALLEL if mode == "parallel" else Variant(mode), **options)
