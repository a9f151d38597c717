"""The result of a study as plain data: a row per model, the fronts, and the model that the rule selects."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mobius_pipeline.comparison.model import Point, Points
from mobius_pipeline.comparison.points import points
from mobius_pipeline.comparison.trainings import Record
from mobius_pipeline.comparison.uncertainty import paired_change
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.study.cells import SAMPLES, TRAINED, Cell, Laboratory
from mobius_pipeline.study.grid import Studied
from mobius_pipeline.training.result import TrainingResult

SERIAL = "serial"
MOST_AT_EQUAL_STEPS = 1.03  # times serial's loss
RULE = (
    "the least peak memory of the parallel models that were trained with all seeds and whose held-out loss, "
    f"with each seed, is at most {100 * (MOST_AT_EQUAL_STEPS - 1):.0f}% above serial's at equal steps, and "
    "not above it at equal compute"
)

Row = dict[str, Any]


def report(
    laboratory: Laboratory,
    found: Mapping[str, Studied],
    step_s: Mapping[str, float],
    quality: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Compare the models of a study with serial.

    Args:
        laboratory: Data and settings of the trainings.
        found: The trained models, by name.
        step_s: Seconds per step of each model, measured in turns.
        quality: Measures of the samples of some models.
    """
    serial = found[SERIAL]
    records = {name: _records(laboratory, one) for name, one in found.items()}
    rows: dict[str, Row] = {
        name: {
            "model": asdict(one.model),
            "rate": one.rate,
            "loss_by_rate": {f"{rate:g}": loss for rate, loss in one.rates.items()},
            "seeds": list(one.seeds),
            "trainable": one.first["trainable_parameters"],
            "peak_bytes": one.first["peak_memory_bytes"],
            "peak_ratio": one.first["peak_memory_bytes"] / serial.first["peak_memory_bytes"],
            "flops": one.first["flops_per_step"],
            "flops_ratio": one.first["flops_per_step"] / serial.first["flops_per_step"],
            "step_s": step_s[name],
            "step_ratio": step_s[name] / step_s[SERIAL],
            "loss_by_timestep": one.first["heldout_loss_by_timestep"],
            "curve": [[step, loss] for step, loss, _ in one.first["history"]["heldout"]],
            "quality": quality.get(name),
            **_compared(records, step_s, name),
        }
        for name, one in found.items()
    }
    return {
        "start_loss": serial.first["heldout_loss_start"],
        "heldout_clips": len(laboratory.store.clips("heldout")),
        "train_clips": len(laboratory.store.clips("train")),
        "models": rows,
        "fronts": {"memory": front(rows, "peak_ratio"), "time": front(rows, "step_ratio")},
        "rule": RULE,
        "chosen": chosen(rows),
    }


def _records(laboratory: Laboratory, one: Studied) -> list[Record]:
    places = {seed: laboratory.place(Cell(one.model, one.rate, seed)) for seed in one.seeds}
    return [
        Record(TrainingResult(place / TRAINED).description, one.seeds[seed], SampleSet(place / SAMPLES))
        for seed, place in places.items()
    ]


def _compared(records: Mapping[str, list[Record]], step_s: Mapping[str, float], name: str) -> Row:
    """Return the losses where the model and serial have spent the same, over the seeds that both have."""
    own, seeds = records[name], {record.seed for record in records[name]}
    serial = [record for record in records[SERIAL] if record.seed in seeds]
    found = _points(serial, own, step_s, name)
    alone = {one.seed: _points([first], [one], step_s, name) for first, one in zip(serial, own, strict=True)}
    losses = {}
    for point in Points.model_fields:
        reached: Point = getattr(found, point)
        change = reached.against.get(name)
        losses[f"equal_{point}"] = {
            "steps": reached.steps[name],
            "loss": reached.losses[name],
            "half_interval": reached.ci95_half[name],
            "ratio": _ratio(reached, name),
            "ratio_by_seed": {str(seed): _ratio(getattr(one, point), name) for seed, one in alone.items()},
            "against": change and change.model_dump(),
        }
    return {**losses, "change": _change(own)}


def _points(serial: list[Record], own: list[Record], step_s: Mapping[str, float], name: str) -> Points:
    columns = {SERIAL: serial, name: own}
    return points(columns, {label: step_s[label] for label in columns})


def _ratio(reached: Point, name: str) -> float:
    return reached.losses[name] / reached.losses[SERIAL]


def _change(records: list[Record]) -> dict[str, Any]:
    """Return the change of the held-out loss from the start, over the clips, with the first seed."""
    by_clip = records[0].metrics["heldout_by_clip"]
    return paired_change(by_clip["start"], by_clip["end"], over="clips").model_dump(exclude={"over"})


def front(rows: Mapping[str, Row], cost: str) -> list[str]:
    """Return the models that no other beats in both cost and loss at equal compute, cheapest first."""

    def beaten(row: Row) -> bool:
        return any(
            other is not row
            and other[cost] <= row[cost]
            and other["equal_compute"]["ratio"] < row["equal_compute"]["ratio"]
            for other in rows.values()
        )

    return sorted(
        (name for name, row in rows.items() if not beaten(row)), key=lambda name: float(rows[name][cost])
    )


def chosen(rows: Mapping[str, Row]) -> str | None:
    """Return the model that `RULE` selects, or None."""
    most = max(len(row["seeds"]) for row in rows.values())
    fit = [
        name
        for name, row in rows.items()
        if row["model"]["mode"] == "parallel"
        and len(row["seeds"]) == most
        and max(row["equal_steps"]["ratio_by_seed"].values()) <= MOST_AT_EQUAL_STEPS
        and max(row["equal_compute"]["ratio_by_seed"].values()) <= 1
    ]
    return min(fit, key=lambda name: float(rows[name]["peak_ratio"]), default=None)
