"""Configuration of the latents store."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mobius_pipeline.runtime.config import Config, MibLimit, SecondsLimit
from mobius_pipeline.runtime.devices import Device


def _is_number(value: Any, least: int) -> bool:
    return type(value) is int and value >= least  # a bool is an int, too


def _processes(value: Any) -> Any:
    if value != "auto" and not _is_number(value, 1):
        raise ValueError("must be a number of at least 1, or auto")
    return value


def _gpus(value: Any) -> Any:
    listed = value if isinstance(value, list) else [value]
    are_numbers = listed and all(_is_number(one, 0) for one in listed)
    if value != "auto" and not (are_numbers and len({*listed}) == len(listed)):
        raise ValueError("must be a number of GPUs, auto, or a list of distinct GPUs such as [0, 2]")
    return value


# Validated as a whole: for a union, pydantic would report one error for each of its members.
ProcessCount = Annotated[Literal["auto"] | int, BeforeValidator(_processes)]
Gpus = Annotated[Literal["auto"] | int | list[int], BeforeValidator(_gpus)]


class EncodeConfig(Config):
    """Settings of the latents store, in `conf/<env>/parameters_encode.yml`."""

    clips_per_shard: int = Field(gt=0)
    frames_per_batch: int = Field(gt=0, description="frames of a clip that the VAE encodes in one batch")
    device: Device
    processes: ProcessCount = Field(default="auto", description="encoding processes, each with its own VAE")
    threads: int = Field(default=1, gt=0, description="CPU threads of each VAE; changes the last bits")
    gpus: Gpus = Field(description="number of GPUs, a list of them, or auto; 0: the default one of `device`")
    retries: int = Field(ge=0, description="retries of a clip that fails or kills its process")
    seconds_per_file: SecondsLimit = Field(default=600, description="time limit for decoding a clip, s")
    memory_mib_per_file: MibLimit = Field(default=4096, description="memory limit of a decoding process")
    remove_orphans: bool = Field(description="delete shards that no clip refers to")

    @model_validator(mode="after")
    def _gpus_need_cuda(self) -> Self:
        if self.gpus and self.device != "cuda":
            raise ValueError(
                f"encode.gpus is {self.gpus}, which needs device: cuda, not {self.device}. Set device: cuda, "
                "or set gpus: 0"
            )
        return self
