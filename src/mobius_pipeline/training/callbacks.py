"""Callbacks of a training, and the history that it records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobius_pipeline.training.previews import Preview

_KEPT_ELSEWHERE = ("loss", "heldout_loss", "learning_rate")  # stored with seconds, or a function of the step


@dataclass
class History:
    """The losses and measurements of a training; "rows" have (step, value, seconds of training so far).

    Attributes:
        loss: Rows of the training loss, one per step.
        heldout: Rows of the held-out loss over the watched clips.
        watched: The step and the held-out loss of each watched clip, by `clip_id`.
        seconds: Duration of each timed step.
        waited: Seconds that each step waited for its batch.
        memory: Peak memory in bytes and its breakdown, measured on the first of `devices`.
        flops: FLOPs of one step.
        at_steps: The step `train.steps` and the held-out loss over all clips there, if the training continues
            beyond it.
        devices: Devices that the training ran on, in order.
        further: (step, value) of every other metric of a step or an evaluation, by its name.
    """

    loss: list[tuple[int, float, float]] = field(default_factory=list)
    heldout: list[tuple[int, float, float]] = field(default_factory=list)
    watched: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    flops: float = 0.0
    at_steps: dict[str, Any] | None = None
    devices: list[str] = field(default_factory=list)
    further: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def note(further: dict[str, list[tuple[int, float]]], metrics: dict[str, float], step: int) -> None:
    """Append to `further` the metrics of a step or an evaluation that `History` keeps nowhere else."""
    for name, value in metrics.items():
        if name not in _KEPT_ELSEWHERE:
            further.setdefault(name, []).append((step, value))


@dataclass(frozen=True)
class Callbacks:
    """Functions that a training calls with metrics, previews and checkpoints; by default they do nothing."""

    metrics: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    preview: Callable[[list[Preview], int], None] = lambda previews, step: None
    checkpoint: Callable[[Path, int, dict[str, float]], None] = lambda path, step, metrics: None
