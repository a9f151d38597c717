"""The trainings of a study: every model at every rate, then more seeds near the front."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mobius_pipeline.models.variant import Variant
from mobius_pipeline.study.cells import Cell, Laboratory
from mobius_pipeline.study.config import StudyConfig
from mobius_pipeline.training.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Studied:
    """A trained model of a study: its best learning rate, the loss of every rate, and its metrics by seed.

    `loss` is that of the first seed, at serial's compute.
    """

    model: Variant
    rate: float
    rates: Mapping[float, float]
    seeds: Mapping[int, Metrics]
    loss: float

    @property
    def first(self) -> Metrics:
        """Metrics of the first seed."""
        return next(iter(self.seeds.values()))


def study(laboratory: Laboratory, config: StudyConfig) -> dict[str, Studied]:
    """Train every model of a study and return them by name; finished trainings are read.

    Raises:
        MobiusError: If data, base or settings cannot be used.
    """
    first, *others = config.seeds
    for model in config.models().values():
        laboratory.check(model)
    found: dict[str, Studied] = {}
    budget = 0.0  # FLOPs of serial, the first model
    for name, model in config.models().items():
        cells = {rate: Cell(model, rate, first) for rate in config.rates}
        metrics = {rate: laboratory.metrics(cell) for rate, cell in cells.items()}
        whole = metrics[config.rates[0]]
        budget = budget or float(whole.flops_per_step * whole.steps)
        losses = {rate: loss_within(one, budget) for rate, one in metrics.items()}
        best = min(losses, key=lambda rate: losses[rate])
        found[name] = Studied(model, best, losses, {first: metrics[best]}, losses[best])
        log.info("Study: %s, loss %.5f at equal compute, rate %g.", name, losses[best], best)
    for name in near_front(found, config.near):
        one = found[name]
        more = {seed: laboratory.metrics(Cell(one.model, one.rate, seed)) for seed in others}
        found[name] = replace(one, seeds={**one.seeds, **more})
    return found


def loss_within(metrics: Metrics, budget: float) -> float:
    """Return the held-out loss after `budget` FLOPs, or at the end of a training that spent fewer."""
    steps = budget / metrics.flops_per_step
    if steps >= metrics.steps - 1:
        return metrics.heldout_loss
    curve = metrics.history.heldout
    return float(np.interp(steps, [point[0] for point in curve], [point[1] for point in curve]))


def near_front(found: Mapping[str, Studied], near: float) -> list[str]:
    """Return serial, and the models that none with no more memory beats by more than `near`."""

    def beaten(one: Studied) -> bool:
        return any(
            other.first.peak_memory_bytes <= one.first.peak_memory_bytes
            and other.loss * (1 + near) < one.loss
            for other in found.values()
        )

    return [name for name, one in found.items() if one.model.mode == "serial" or not beaten(one)]
