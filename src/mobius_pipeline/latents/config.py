"""Configuration of the latents store."""

from typing import Self

from pydantic import Field, model_validator

from mobius_pipeline.config import Config
from mobius_pipeline.devices import Device
from mobius_pipeline.engine import Engine


class EncodeConfig(Config):
    """`conf/<env>/parameters_encode.yml`."""

    clips_per_shard: int = Field(gt=0)
    frames_per_batch: int = Field(gt=0, description="frames that the VAE encodes at once")
    device: Device
    engine: Engine = Field(description="native: in this process")
    ray_address: str | None = Field(description="of a running cluster; null: one on this machine")
    gpus: int = Field(ge=0, description="models at a time, each on a GPU that the engine keeps for it")
    remove_orphans: bool = Field(description="delete shards that no clip refers to any more")

    @model_validator(mode="after")
    def _gpus_can_be_kept(self) -> Self:
        if self.gpus and not self.device.startswith("cuda"):
            raise ValueError(f"encode.gpus is {self.gpus}, encode.device {self.device}: set device: cuda")
        if self.gpus > 1 and self.engine == "native":
            raise ValueError("encode.gpus above 1 needs encode.engine: ray, which gives each model a GPU")
        return self
