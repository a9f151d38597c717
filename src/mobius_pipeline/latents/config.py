"""Configuration of the latents store."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.devices import Device

Number = Annotated[int, Field(ge=0, strict=True)]


def _distinct(gpus: list[int]) -> list[int]:
    if len(set(gpus)) < len(gpus):
        raise ValueError("a GPU is named twice; several processes share one by encode.processes")
    return gpus


GpuList = Annotated[list[Number], Field(min_length=1), AfterValidator(_distinct)]


class EncodeConfig(Config):
    """`conf/<env>/parameters_encode.yml`."""

    clips_per_shard: int = Field(gt=0)
    frames_per_batch: int = Field(gt=0, description="frames that the VAE encodes at once")
    device: Device
    processes: Literal["auto"] | Annotated[int, Field(gt=0, strict=True)] = Field(
        default="auto", description="that encode, each with a model of its own"
    )
    threads: int = Field(default=1, gt=0, description="of a VAE on a CPU; they decide on the last bits")
    gpus: Literal["auto"] | Number | GpuList = Field(
        description="that are used: so many, these, or all; 0: `device` alone"
    )
    retries: int = Field(ge=0, description="of a clip that fails, or that a process dies of which encodes it")
    seconds_per_file: float = Field(default=600, gt=0, description="to decode a clip in; then it is stopped")
    memory_mib_per_file: int = Field(default=4096, gt=0, description="of the process that decodes a clip")
    remove_orphans: bool = Field(description="delete shards that no clip refers to any more")

    @model_validator(mode="after")
    def _gpus_need_cuda(self) -> Self:
        if self.gpus and self.device != "cuda":
            raise ValueError(
                f"encode.gpus is {self.gpus}, which needs device: cuda and not {self.device}. Set that, or "
                "gpus: 0 to use this device alone"
            )
        return self
