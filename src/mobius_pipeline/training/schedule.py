"""The learning rate, as a function of the step alone, so that there is nothing to resume."""

import math

from mobius_pipeline.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of step `step`, from 0, of a training of `steps`.

    It rises linearly over `warmup_steps`; "cosine" multiplies it by half a cosine, 1 at the first step and 0
    after the last one.
    """
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay = 0.5 * (1 + math.cos(math.pi * step / steps)) if config.schedule == "cosine" else 1.0
    return config.learning_rate * warmup * decay
