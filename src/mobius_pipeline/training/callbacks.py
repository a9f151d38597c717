"""Callbacks of a training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobius_pipeline.training.previews import Preview


@dataclass(frozen=True)
class Callbacks:
    """Functions that a training calls with metrics, previews and checkpoints; by default they do nothing."""

    metrics: Callable[[dict[str, float], int], None] = lambda metrics, step: None
    preview: Callable[[list[Preview], int], None] = lambda previews, step: None
    checkpoint: Callable[[Path, int, dict[str, float]], None] = lambda path, step, metrics: None
