"""Configuration of the small base model that is trained from the clips."""

from typing import Literal

from pydantic import Field, model_validator

from mobius_pipeline.runtime.config import Config, Seed
from mobius_pipeline.runtime.devices import Device


class FitConfig(Config):
    """A plain training: AdamW, linear warm-up, cosine decay to zero."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="frames")
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)


class AutoencoderConfig(Config):
    """A small `AutoencoderKL`; each level but the last halves the image."""

    channels: tuple[int, ...]
    latent_channels: int = Field(gt=0)
    norm_groups: int = Field(gt=0)
    kl_weight: float = Field(ge=0)
    crop_share: float = Field(ge=0, le=1, description="share of the first steps that see crops")
    colour_jitter_share: float = Field(
        ge=0, le=1, description="share of the first steps that see shuffled colours"
    )
    fit: FitConfig


class TextToImageConfig(Config):
    """A small text-conditioned `UNet2DConditionModel` and its noise schedule."""

    channels: tuple[int, ...]
    heads: tuple[int, ...]
    layers: int = Field(gt=0)
    norm_groups: int = Field(gt=0)
    text_tokens: int = Field(gt=0)
    prediction_type: Literal["epsilon", "v_prediction"]
    caption_dropout: float = Field(ge=0, lt=1)
    ema_decay: float = Field(ge=0, lt=1)
    fit: FitConfig

    @model_validator(mode="after")
    def _rules(self) -> "TextToImageConfig":
        if len(self.channels) != len(self.heads):
            raise ValueError(
                "base.text_to_image.channels and base.text_to_image.heads must have the same length"
            )
        return self


class BaseConfig(Config):
    """`conf/<env>/parameters_base.yml`."""

    seed: Seed
    device: Device
    autoencoder: AutoencoderConfig
    text_to_image: TextToImageConfig
