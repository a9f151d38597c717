"""Configuration of evaluation and comparison."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from mobius_pipeline.runtime.config import Config, Seed
from mobius_pipeline.runtime.devices import Device


class EvaluateConfig(Config):
    """`conf/<env>/parameters_evaluate.yml`."""

    seed: Seed = Field(description="seed for drawing reference clips")
    reference_clips: int = Field(gt=3, description="real clips that the Fréchet distance draws from")
    device: Device = Field(description="where the VAE computes the features of the Fréchet distance")


class CompareConfig(Config):
    """`conf/<env>/parameters_compare.yml`: the trainings to compare, and how their steps are timed."""

    runs: list[str] | None = Field(
        default=None, description="run ids, their prefixes, or DVC experiments; null: those in data/"
    )
    filter: str | None = Field(default=None, description="an MLflow search, instead of `runs`")
    paired_steps: int | None = Field(
        gt=1, description="steps per training that are timed in turns; null: each training's own times"
    )

    @property
    def chooses(self) -> bool:
        """Whether trainings are named; if not, the newest of both modes are compared."""
        return self.runs is not None or self.filter is not None

    @field_validator("runs", mode="before")
    @classmethod
    def _words(cls, runs: Any) -> Any:
        """Split names at spaces, which is how `kedro run --params` passes a list."""
        return runs.split() if isinstance(runs, str) else runs

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.runs is not None and self.filter is not None:
            raise ValueError("compare.runs and compare.filter both choose trainings: give one of them")
        return self
