"""The losses and measurements of a training, as its checkpoints keep them."""

from typing import Any

from pydantic import Field

from mobius_pipeline.training.metrics import LossAtStep, Recorded


class History(Recorded):
    """The losses and measurements of a training so far; the key `history` of a checkpoint's `state.json`.

    Each key belongs to the part of the trainer whose `state_dict` returns it.
    """

    loss: list[tuple[int, float, float]] = Field(
        default=[], description="step, training loss, seconds of training so far"
    )
    further: dict[str, list[tuple[int, float]]] = Field(
        default={}, description="step and value of every other metric of a step or an evaluation, by its name"
    )
    waited: list[float] = Field(default=[], description="s; wait of each step for its batch")
    seconds: list[float] = Field(default=[], description="s; duration of each timed step")
    memory: dict[str, Any] = Field(
        default={}, description="bytes; peak memory and its parts, measured on the first of `devices`"
    )
    flops: float = Field(default=0.0, description="FLOPs of one step")
    devices: list[str] = Field(default=[], description="devices that the training ran on, in order")
    heldout: list[tuple[int, float, float]] = Field(
        default=[], description="step, held-out loss over the watched clips, seconds of training so far"
    )
    watched: list[tuple[int, dict[str, float]]] = Field(
        default=[], description="step, and held-out loss of each watched clip, by `clip_id`"
    )
    at_steps: LossAtStep | None = Field(
        default=None, description="over all held-out clips at `train.steps`, if the training continues"
    )
    shown: int | None = Field(default=None, description="step of the last preview")
