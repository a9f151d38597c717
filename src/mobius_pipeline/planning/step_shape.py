"""The sizes of a training step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepShape:
    """Sizes of a training step: `batch` clips of `frames` latents of `height` x `width`, `tokens` of text.

    With gradient accumulation, the batch is computed in `parts` of `batch // parts` clips, one after another.
    """

    batch: int
    frames: int
    height: int
    width: int
    tokens: int
    parts: int = 1
