"""Configuration of the latents store."""

from typing import Self

from pydantic import Field, model_validator

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.devices import Device


class EncodeConfig(Config):
    """`conf/<env>/parameters_encode.yml`."""

    clips_per_shard: int = Field(gt=0)
    frames_per_batch: int = Field(gt=0, description="frames that the VAE encodes at once")
    device: Device
    gpus: int = Field(ge=0, description="of the cluster, each with a model; 0: one model on `device`")
    retries: int = Field(ge=0, description="of a clip that fails, or that a worker of a cluster dies of")
    seconds_per_file: float = Field(default=600, gt=0, description="to decode a clip in; then it is stopped")
    memory_mib_per_file: int = Field(default=4096, gt=0, description="of the process that decodes a clip")
    remove_orphans: bool = Field(description="delete shards that no clip refers to any more")

    @model_validator(mode="after")
    def _gpus_are_the_clusters(self) -> Self:
        if self.gpus and not self.device.startswith("cuda"):
            raise ValueError(
                f"encode.gpus is {self.gpus}: GPUs of a cluster need device: cuda. Set that, or gpus: 0"
            )
        return self
