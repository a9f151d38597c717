"""Configuration of the latents store."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mobius_pipeline.runtime.config import Config, MibLimit, SecondsLimit
from mobius_pipeline.runtime.devices import Device


def _is_number(value: Any, least: int) -> bool:
    return type(value) is int and value >= least  # a bool is an int, too


def _processes(value: Any) -> Any:
    if value != "auto" and not _is_number(value, 1):
        raise ValueError("a number from 1 on is needed, or auto")
    return value


def _gpus(value: Any) -> Any:
    listed = value if isinstance(value, list) else [value]
    are_numbers = listed and all(_is_number(one, 0) for one in listed)
    if value != "auto" and not (are_numbers and len({*listed}) == len(listed)):
        raise ValueError("a number of GPUs is needed, or auto, or a list of different ones as [0, 2]")
    return value


# Checked as a whole: of a union, pydantic would report what each of its parts lacks.
ProcessCount = Annotated[Literal["auto"] | int, BeforeValidator(_processes)]
Gpus = Annotated[Literal["auto"] | int | list[int], BeforeValidator(_gpus)]


class EncodeConfig(Config):
    """`conf/<env>/parameters_encode.yml`."""

    clips_per_shard: int = Field(gt=0)
    frames_per_batch: int = Field(gt=0, description="frames that the VAE encodes at once")
    device: Device
    processes: ProcessCount = Field(default="auto", description="that encode, each with a model of its own")
    threads: int = Field(default=1, gt=0, description="of a VAE on a CPU; they decide on the last bits")
    gpus: Gpus = Field(description="that are used: so many, these, or all; 0: `device` alone")
    retries: int = Field(ge=0, description="of a clip that fails, or that a process dies of which encodes it")
    seconds_per_file: SecondsLimit = Field(default=600, description="to decode a clip in; then it is stopped")
    memory_mib_per_file: MibLimit = Field(default=4096, description="of the process that decodes a clip")
    remove_orphans: bool = Field(description="delete shards that no clip refers to any more")

    @model_validator(mode="after")
    def _gpus_need_cuda(self) -> Self:
        if self.gpus and self.device != "cuda":
            raise ValueError(
                f"encode.gpus is {self.gpus}, which needs device: cuda and not {self.device}. Set that, or "
                "gpus: 0 to use this device alone"
            )
        return self
