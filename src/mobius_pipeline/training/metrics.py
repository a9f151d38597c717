"""What a finished training measured: the models of its `metrics.json`."""

from pydantic import ConfigDict, Field

from mobius_pipeline.runtime.document import Document
from mobius_pipeline.runtime.units import GIB

Number = int | float  # an integer, or a mean of different integers
Row = tuple[Number, float, float]


class Recorded(Document):
    """A part of what a training recorded; keys of other versions of this package are ignored."""

    model_config = ConfigDict(extra="ignore")


class Memory(Document):
    """Parts of the peak memory, bytes."""

    weights: Number = Field(description="bytes")
    gradients: Number = Field(description="bytes")
    optimizer: Number = Field(description="bytes")
    activations: Number = Field(description="bytes")
    other: Number = Field(description="bytes")


class Curves(Document):
    """Losses against the steps of a training."""

    loss: list[Row] = Field(description="step, training loss, seconds of training")
    heldout: list[Row] = Field(description="step, held-out loss, seconds of training")


class HeldOutLoss(Recorded):
    """Unweighted mean squared error of the prediction on held-out clips."""

    loss: float = Field(description="mean over clips and timesteps")
    by_timestep: dict[str, float] = Field(
        description="mean over each range of timesteps, by its first and last timestep"
    )
    by_clip: dict[str, float] = Field(description="mean over the timestep grid for each clip, by `clip_id`")


class LossAtStep(HeldOutLoss):
    """The held-out loss after a step."""

    step: int = Field(description="optimiser steps")


class LossByClip(Recorded):
    """The held-out loss of each clip, by `clip_id`, before the first step and after the last."""

    start: dict[str, float]
    end: dict[str, float]


class Costs(Recorded):
    """Size, memory and time of a training."""

    steps: int = Field(description="optimiser steps")
    trainable_parameters: int = Field(description="number of trained parameters")
    total_parameters: int = Field(description="number of parameters, frozen ones included")
    peak_memory_bytes: int = Field(description="bytes; the peak over a whole optimiser step")
    memory_breakdown_bytes: Memory
    step_s: float = Field(description="s; median step time")
    step_s_iqr: tuple[float, float] = Field(description="s; lower and upper quartile of step times")
    training_s: float = Field(
        description="s; sum of the timed steps; the one whose memory is measured is not timed"
    )
    data_s: float | None = Field(default=None, description="s; median wait of a step for its batch")
    frames_per_s: float = Field(description="trained frames per second")
    flops_per_step: Number = Field(description="FLOPs of a step, forward and backward")


class Figures(Costs):
    """The figures of a training that are not by clip or by step."""

    heldout_loss: float = Field(description="over all held-out clips at the end, EMA weights")
    heldout_loss_start: float = Field(description="over all held-out clips before the first step")
    heldout_loss_by_timestep: dict[str, float] = Field(description="mean over each range of timesteps")
    run_id: str | None = Field(default=None, description="MLflow run; null: not recorded")


class Metrics(Figures):
    """Contents of a finished training's `metrics.json`."""

    history: Curves
    heldout_by_clip: LossByClip
    heldout_watched: list[tuple[int, dict[str, float]]] = Field(
        default=[], description="step, and loss of each clip that the curve covers; empty: not recorded"
    )
    heldout_at_steps: LossAtStep | HeldOutLoss | None = Field(
        default=None,
        description="over all held-out clips at `train.steps`, if the training reached it; earlier versions "
        "named the step only if the training continued",
    )

    @property
    def figures(self) -> Figures:
        """The figures alone."""
        return Figures.model_validate(self.model_dump())


def tracked_metrics(metrics: Metrics) -> dict[str, float]:
    """Return the metrics of a finished training under their names in MLflow (GiB, seconds)."""
    at_steps, data_s = metrics.heldout_at_steps, metrics.data_s
    return {
        **({} if at_steps is None else {"eval/loss_at_steps": at_steps.loss}),
        "eval/loss": metrics.heldout_loss,
        "eval/loss_start": metrics.heldout_loss_start,
        **{f"eval/loss_{bucket}": value for bucket, value in metrics.heldout_loss_by_timestep.items()},
        "memory/peak_gib": metrics.peak_memory_bytes / GIB,
        **{f"memory/{name}_gib": value / GIB for name, value in metrics.memory_breakdown_bytes},
        "time/step_s": metrics.step_s,
        "time/step_alone_s": metrics.step_s,  # kept when a comparison times the step again
        "time/training_s": metrics.training_s,
        **({} if data_s is None else {"time/data_s": data_s}),
        "throughput/frames_per_s": metrics.frames_per_s,
        "flops/step": metrics.flops_per_step,
        "flops/training": metrics.flops_per_step * metrics.steps,
        "parameters/trainable": metrics.trainable_parameters,
        "parameters/total": metrics.total_parameters,
    }
