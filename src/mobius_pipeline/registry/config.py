"""Configuration of the model registry."""

from typing import Literal

from pydantic import Field

from mobius_pipeline.runtime.config import Config, Seed

Cost = Literal["peak_memory_bytes", "step_s", "training_s", "trainable_parameters"]


class CandidateRule(Config):
    """Rule that chooses the candidate among the columns of a comparison."""

    within_percent: float = Field(
        ge=0, description="a column qualifies if its held-out loss is at most this much above the lowest"
    )
    least: Cost = Field(description="the qualified column with the least of this is chosen")


class ChampionRule(Config):
    """Rule that decides whether the alias `champion` moves to the candidate."""

    within_percent: float = Field(ge=0, description="held-out loss allowed above the champion's")


class SamplingDefaults(Config):
    """Sampling parameters of the registered model that a request does not set."""

    seed: Seed = Field(description="the i-th prompt's noise is drawn with seed + i")
    steps: int = Field(gt=0, description="DDIM steps")
    guidance_scale: float = Field(ge=1)


class RegisterConfig(Config):
    """Settings in `conf/<env>/parameters_register.yml`."""

    name: str = Field(pattern=r"^[^/:]+$", description="name of the registered model")
    candidate: CandidateRule
    champion: ChampionRule
    sampling: SamplingDefaults
    include_base: bool = Field(
        description="copy the base into the registry; else name its folder when loading"
    )
    base_licence: str | None = Field(description="licence of the base; null: that of its README.md")
    prompt: str = Field(min_length=1, description="prompt of the input example")
