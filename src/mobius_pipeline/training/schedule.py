"""The learning rate, as a function of the step alone, so that there is nothing to resume."""

import math
from collections.abc import Callable

import torch
from diffusers.optimization import get_scheduler
from torch import nn

from mobius_pipeline.training.config import OptimizerConfig


def scaled_rate(config: OptimizerConfig, batch_size: int) -> float:
    """The peak learning rate for a batch of `batch_size` clips."""
    if config.scaling is None:
        return config.learning_rate
    ratio = batch_size / config.scaling.reference_batch
    return config.learning_rate * (ratio if config.scaling.rule == "linear" else math.sqrt(ratio))


def learning_rates(config: OptimizerConfig, steps: int, batch_size: int) -> Callable[[int], float]:
    """The rate of each step, from 0, of a training of `steps`: diffusers' schedule of that name.

    Its value after step + 1 of steps + 1 is taken: at 0 and at the last one some schedules are 0, and that
    step would be wasted.
    """
    peak = scaled_rate(config, batch_size)
    # diffusers' factories hand out the factor within a scheduler, which wants an optimiser
    unused = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=peak)
    scheduler = get_scheduler(
        config.schedule, unused, num_warmup_steps=config.warmup_steps, num_training_steps=steps + 1
    )
    (factor,) = scheduler.lr_lambdas
    return lambda step: peak * float(factor(step + 1))
