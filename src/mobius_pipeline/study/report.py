"""Compare the models of a study with serial: a result per model, the fronts, and the selected model."""

from collections.abc import Mapping
from typing import Literal

from mobius_pipeline.comparison.model import Change, Point, Points
from mobius_pipeline.comparison.points import points
from mobius_pipeline.comparison.trainings import Training
from mobius_pipeline.comparison.uncertainty import paired_change
from mobius_pipeline.ingest.split import HELDOUT, TRAIN
from mobius_pipeline.study.cells import Cell, Laboratory
from mobius_pipeline.study.grid import Studied
from mobius_pipeline.study.model import EqualPoint, Fronts, ModelResult, Scores, Study

SERIAL = "serial"
MOST_AT_EQUAL_STEPS = 1.03  # times serial's loss
RULE = (
    "the least peak memory of the parallel models that were trained with all seeds and whose held-out loss, "
    f"with each seed, is at most {100 * (MOST_AT_EQUAL_STEPS - 1):.0f}% above serial's at equal steps, and "
    "not above it at equal compute"
)

Cost = Literal["peak_ratio", "step_ratio"]


def report(
    laboratory: Laboratory,
    found: Mapping[str, Studied],
    step_s: Mapping[str, float],
    quality: Mapping[str, Scores],
) -> Study:
    """Compare the models of a study with serial.

    Args:
        laboratory: Data and settings of the trainings.
        found: The trained models, by name.
        step_s: Seconds per step of each model, measured in turns.
        quality: Scores of the samples of some models.
    """
    trainings = {name: _trainings(laboratory, one) for name, one in found.items()}
    models = {
        name: _result(name, found, step_s, _equal(trainings, step_s, name), quality.get(name))
        for name in found
    }
    return Study(
        start_loss=found[SERIAL].first.heldout_loss_start,
        heldout_clips=len(laboratory.store.clips(HELDOUT)),
        train_clips=len(laboratory.store.clips(TRAIN)),
        models=models,
        fronts=Fronts(memory=front(models, "peak_ratio"), time=front(models, "step_ratio")),
        rule=RULE,
        chosen=chosen(models),
    )


def _result(
    name: str,
    found: Mapping[str, Studied],
    step_s: Mapping[str, float],
    equal: Mapping[str, EqualPoint],
    quality: Scores | None,
) -> ModelResult:
    one, own, serial = found[name], found[name].first, found[SERIAL].first
    return ModelResult(
        model=one.model,
        rate=one.rate,
        loss_by_rate={f"{rate:g}": loss for rate, loss in one.rates.items()},
        seeds=list(one.seeds),
        trainable=own.trainable_parameters,
        peak_bytes=own.peak_memory_bytes,
        peak_ratio=own.peak_memory_bytes / serial.peak_memory_bytes,
        flops=own.flops_per_step,
        flops_ratio=own.flops_per_step / serial.flops_per_step,
        step_s=step_s[name],
        step_ratio=step_s[name] / step_s[SERIAL],
        loss_by_timestep=own.heldout_loss_by_timestep,
        curve=[(int(step), loss) for step, loss, _ in own.history.heldout],
        quality=quality,
        change=_change(one),
        **equal,
    )


def _trainings(laboratory: Laboratory, one: Studied) -> list[Training]:
    return [
        Training(laboratory.result(Cell(one.model, one.rate, seed)).description, metrics)
        for seed, metrics in one.seeds.items()
    ]


def _equal(
    trainings: Mapping[str, list[Training]], step_s: Mapping[str, float], name: str
) -> dict[str, EqualPoint]:
    """Return the losses where the model and serial have spent the same, over the seeds that both have."""
    own, seeds = trainings[name], {one.seed for one in trainings[name]}
    serial = [one for one in trainings[SERIAL] if one.seed in seeds]
    found = _points(serial, own, step_s, name)
    alone = {one.seed: _points([first], [one], step_s, name) for first, one in zip(serial, own, strict=True)}
    return {
        f"equal_{point}": _at(
            reached, name, {seed: _ratio(getattr(one, point), name) for seed, one in alone.items()}
        )
        for point, reached in found
    }


def _at(reached: Point, name: str, ratio_by_seed: dict[int, float]) -> EqualPoint:
    return EqualPoint(
        steps=reached.steps[name],
        loss=reached.losses[name],
        half_interval=reached.ci95_half[name],
        ratio=_ratio(reached, name),
        ratio_by_seed=ratio_by_seed,
        against=reached.against.get(name),
    )


def _points(serial: list[Training], own: list[Training], step_s: Mapping[str, float], name: str) -> Points:
    columns = {SERIAL: serial, name: own}
    return points(columns, {label: step_s[label] for label in columns})


def _ratio(reached: Point, name: str) -> float:
    return reached.losses[name] / reached.losses[SERIAL]


def _change(one: Studied) -> Change:
    """Return the change of the held-out loss from the start, over the clips, with the first seed."""
    by_clip = one.first.heldout_by_clip
    return paired_change(by_clip.start, by_clip.end, over="clips")


def front(models: Mapping[str, ModelResult], cost: Cost) -> list[str]:
    """Return the models that no other beats in both cost and loss at equal compute, cheapest first."""

    def of(name: str) -> tuple[float, float]:
        return getattr(models[name], cost), models[name].equal_compute.ratio

    def beaten(name: str) -> bool:
        own_cost, own_loss = of(name)
        others = (of(other) for other in models if other != name)
        return any(other_cost <= own_cost and other_loss < own_loss for other_cost, other_loss in others)

    return sorted((name for name in models if not beaten(name)), key=lambda name: of(name)[0])


def chosen(models: Mapping[str, ModelResult]) -> str | None:
    """Return the model that `RULE` selects, or None."""
    most = max(len(one.seeds) for one in models.values())
    fit = [
        name
        for name, one in models.items()
        if one.model.mode == "parallel"
        and len(one.seeds) == most
        and max(one.equal_steps.ratio_by_seed.values()) <= MOST_AT_EQUAL_STEPS
        and max(one.equal_compute.ratio_by_seed.values()) <= 1
    ]
    return min(fit, key=lambda name: models[name].peak_ratio, default=None)
