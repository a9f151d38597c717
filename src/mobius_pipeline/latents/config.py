"""Configuration of the latents store."""

from pydantic import Field

from mobius_pipeline.config import Config
from mobius_pipeline.devices import Device


class EncodeConfig(Config):
    """`conf/<env>/parameters_encode.yml`."""

    clips_per_shard: int = Field(gt=0)
    frames_per_batch: int = Field(gt=0, description="frames that the VAE encodes at once")
    device: Device
