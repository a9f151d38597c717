"""Step times of a study's models, each measured in turns with serial."""

from collections.abc import Mapping

from mobius_pipeline.comparison.timing import paired_step_times
from mobius_pipeline.study.cells import Cell, Laboratory
from mobius_pipeline.study.grid import Studied
from mobius_pipeline.study.report import SERIAL


def step_times(laboratory: Laboratory, found: Mapping[str, Studied], steps: int) -> dict[str, float]:
    """Return the step time (s) of every model: serial's own times the ratio measured in turns with serial.

    Only two models are timed at once, because a real base would not fit more.

    Args:
        laboratory: Data and settings of the trainings.
        found: The trained models by name, serial included.
        steps: Timed steps of each model.
    """
    trained = {
        name: laboratory.result(Cell(one.model, one.rate, next(iter(one.seeds)))).description
        for name, one in found.items()
    }
    own_s = found[SERIAL].first.step_s
    step_s = {SERIAL: own_s}
    for name in [name for name in trained if name != SERIAL]:
        pair = {SERIAL: trained[SERIAL], name: trained[name]}
        timers = paired_step_times(pair, laboratory.store, laboratory.base, steps)
        step_s[name] = own_s * timers[name].median_s / timers[SERIAL].median_s
    return step_s
