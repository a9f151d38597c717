"""Configuration of the model registry."""

from typing import Literal

from pydantic import Field

from mobius_pipeline.runtime.config import Config, Seed

Cost = Literal["peak_memory_bytes", "step_s", "training_s", "trainable_parameters"]


class CandidateRule(Config):
    """Which column of a comparison becomes the candidate."""

    within_percent: float = Field(ge=0, description="of the lowest held-out loss, for a column to qualify")
    least: Cost = Field(description="the qualified column with the least of it is chosen")


class ChampionRule(Config):
    """When the alias `champion` moves to the candidate."""

    within_percent: float = Field(ge=0, description="that its held-out loss may lie above the champion's")


class SamplingDefaults(Config):
    """What the registered model samples with, where a request says nothing else."""

    seed: Seed = Field(description="the i-th prompt's noise is drawn with seed + i")
    steps: int = Field(gt=0, description="DDIM steps")
    guidance_scale: float = Field(ge=1)


class RegisterConfig(Config):
    """`conf/<env>/parameters_register.yml`."""

    name: str = Field(pattern=r"^[^/:]+$", description="of the registered model")
    candidate: CandidateRule
    champion: ChampionRule
    sampling: SamplingDefaults
    include_base: bool = Field(description="copy the base into the registry; else whoever loads names it")
    base_licence: str | None = Field(description="null: as the base's README.md says")
    prompt: str = Field(min_length=1, description="of the input example")
