"""The result of a study as pydantic models; `study.json` is a serialised `Study`."""

from pydantic import Field

from mobius_pipeline.comparison.model import Change
from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.document import Document


class Scores(Quality):
    """Scores of a model's samples, averaged over its training seeds."""

    samples: int = Field(description="videos of all seeds in the Fréchet distance")


class EqualPoint(Document):
    """A model's loss where serial has spent the same, over the training seeds that both have."""

    steps: int = Field(description="optimiser steps of the model")
    loss: float = Field(description="held-out loss")
    half_interval: float | None = Field(description="half the 95% interval over seeds; null: one seed")
    ratio: float = Field(description="loss as a multiple of serial's")
    ratio_by_seed: dict[int, float] = Field(description="ratio by training seed")
    against: Change | None = Field(description="change from serial's loss; null: serial itself")


class ModelResult(Document):
    """A trained model, compared with serial."""

    model: Variant
    rate: float = Field(description="the best learning rate")
    loss_by_rate: dict[str, float] = Field(description="at serial's compute, by learning rate")
    seeds: list[int] = Field(description="training seeds; single figures are of the first")
    trainable: int = Field(description="trained parameters")
    peak_bytes: int = Field(description="bytes; peak memory of an optimiser step")
    peak_ratio: float = Field(description="peak memory as a multiple of serial's")
    flops: float = Field(description="FLOPs of a step, forward and backward")
    flops_ratio: float = Field(description="FLOPs as a multiple of serial's")
    step_s: float = Field(description="s; serial's own median, times the ratio measured in turns with serial")
    step_ratio: float = Field(description="step time as a multiple of serial's")
    loss_by_timestep: dict[str, float] = Field(description="held-out loss by range of timesteps")
    curve: list[tuple[int, float]] = Field(description="step, held-out loss")
    quality: Scores | None = Field(description="null: far from the front, not sampled")
    equal_steps: EqualPoint
    equal_compute: EqualPoint
    equal_time: EqualPoint
    change: Change = Field(description="change of the held-out loss from the start, by clip")


class Fronts(Document):
    """The models that no other beats in both cost and loss at equal compute, cheapest first."""

    memory: list[str]
    time: list[str]


class Study(Document):
    """The models of a study, and the one that the rule selects."""

    start_loss: float = Field(description="held-out loss before the first step")
    heldout_clips: int = Field(description="number of held-out clips")
    train_clips: int = Field(description="number of training clips")
    models: dict[str, ModelResult]
    fronts: Fronts
    rule: str
    chosen: str | None = Field(description="null: no model satisfies the rule")
