"""The learning rate, as a function of the step alone: it needs no resume state."""

import math
from collections.abc import Callable

import torch
from diffusers.optimization import get_scheduler
from torch import nn

from mobius_pipeline.training.config import OptimizerConfig


def scaled_rate(config: OptimizerConfig, batch_size: int) -> float:
    """Return the peak learning rate for a batch of `batch_size` clips."""
    if config.scaling is None:
        return config.learning_rate
    ratio = batch_size / config.scaling.reference_batch
    return config.learning_rate * (ratio if config.scaling.rule == "linear" else math.sqrt(ratio))


def learning_rates(config: OptimizerConfig, steps: int, batch_size: int) -> Callable[[int], float]:
    """Return the learning rate of each step, from 0, by the diffusers schedule that `config` names.

    The schedule is evaluated after `step + 1` of `steps + 1` steps: some schedules are 0 at both ends, and a
    step at rate 0 is wasted.
    """
    peak = scaled_rate(config, batch_size)
    # diffusers provides the factor only within a scheduler, which needs an optimiser
    unused = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=peak)
    scheduler = get_scheduler(
        config.schedule, unused, num_warmup_steps=config.warmup_steps, num_training_steps=steps + 1
    )
    (factor,) = scheduler.lr_lambdas
    return lambda step: peak * float(factor(step + 1))
