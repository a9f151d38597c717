"""What a training tells while it runs, and what it remembers of itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobius_pipeline.training.previews import Preview


@dataclass
class History:
    """What happened: rows of (step, value, seconds of training so far), and what the meters read.

    `watched` holds the held-out losses by clip behind those of `heldout`, with their step. `at_steps` is the
    held-out loss over all clips at `train.steps`, with that step, of a training that goes on beyond.
    """

    loss: list[tuple[int, float, float]] = field(default_factory=list)
    heldout: list[tuple[int, float, float]] = field(default_factory=list)
    watched: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    flops: float = 0.0
    at_steps: dict[str, Any] | None = None


@dataclass(frozen=True)
class Listener:
    """Where a training reports to; a listener that does nothing is a valid one."""

    metrics: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    preview: Callable[[list[Preview], int], None] = lambda previews, step: None
    checkpoint: Callable[[Path, int, dict[str, float]], None] = lambda path, step, metrics: None
