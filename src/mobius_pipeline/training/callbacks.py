"""What a training reports while it runs, and the record that it keeps of itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobius_pipeline.training.previews import Preview

_KEPT_ELSEWHERE = ("loss", "heldout_loss", "learning_rate")  # in rows with seconds, or a function of the step


@dataclass
class History:
    """What happened: rows of (step, value, seconds of training so far), and what the meters read.

    Attributes:
        loss: Of each step.
        heldout: Over the held-out clips that are watched.
        watched: The same by clip, with its step.
        seconds: Of each step.
        waited: Seconds that each step waited for its batch before.
        memory: The peak and its parts, measured on the first of `devices`.
        flops: Of a step.
        at_steps: The held-out loss over all clips at `train.steps`, with that step, of a training that goes
            on beyond.
        devices: Those that it ran on, in turn.
        further: Rows of (step, value) of whatever else a step or an evaluation measured, by its name there.
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
    """Add to `History.further` what a step or an evaluation measured."""
    for name, value in metrics.items():
        if name not in _KEPT_ELSEWHERE:
            further.setdefault(name, []).append((step, value))


@dataclass(frozen=True)
class Callbacks:
    """Where a training reports to; a callbacks that does nothing is a valid one."""

    metrics: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    preview: Callable[[list[Preview], int], None] = lambda previews, step: None
    checkpoint: Callable[[Path, int, dict[str, float]], None] = lambda path, step, metrics: None
