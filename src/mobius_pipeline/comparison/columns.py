"""Build a column of the comparison from the records of trainings that differ only in their seed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mobius_pipeline.comparison.curves import thinned
from mobius_pipeline.comparison.model import (
    Column,
    HalfIntervals,
    History,
    Memory,
    Number,
    Quality,
    SampleVideo,
    StepTime,
)
from mobius_pipeline.comparison.trainings import Record
from mobius_pipeline.comparison.uncertainty import ci_half_width
from mobius_pipeline.sampling.sample_set import SampleSet

# The figures of metrics.json that are single numbers.
_FIGURES = (
    "steps",
    "trainable_parameters",
    "total_parameters",
    "peak_memory_bytes",
    "training_s",
    "frames_per_s",
    "flops_per_step",
    "heldout_loss",
    "heldout_loss_start",
)


def column(records: Sequence[Record], times: StepTime | None, media: Path) -> Column:
    """Return the column of `records`: the means of their figures, and the samples of the first.

    Args:
        records: The trainings.
        times: Step time measured in turns with the other columns; None: use the trainings' own.
        media: Folder that the paths of videos are relative to.
    """
    first, metrics = records[0], [record.metrics for record in records]

    def values(name: str) -> list[Any]:
        return [one[name] for one in metrics]

    own = own_step_time(records)
    times = times or own
    watched = metrics[0].get("heldout_watched")
    at_steps = [one.get("heldout_at_steps") for one in metrics]
    return Column(
        **{name: mean(values(name)) for name in _FIGURES},
        mode=first.config["model"]["mode"],
        schedule=first.config["train"]["optimizer"].get("schedule", "constant"),
        train_head=bool(first.config["model"].get("train_head", False)),
        seeds=[record.seed for record in records],
        run_ids=values("run_id"),
        memory_breakdown_bytes=Memory(**mean_by_name(values("memory_breakdown_bytes"))),
        step_s=times.median_s,
        step_s_iqr=times.iqr_s,
        training_step_s=own.median_s,
        data_s=mean([one.get("data_s") for one in metrics]),
        heldout_loss_by_timestep=mean_by_name(values("heldout_loss_by_timestep")),
        heldout_loss_at_steps=mean([one and one["loss"] for one in at_steps]),
        ci95_half=HalfIntervals(
            heldout_loss=ci_half_width(values("heldout_loss")), training_s=ci_half_width(values("training_s"))
        ),
        watched=len(watched[0][1]) if watched else None,
        quality=Quality(**mean_of_scores(values("quality"))),
        history=History(**thinned(_mean_history(values("history")))),
        samples=_samples(first.samples, media),
    )


def own_step_time(records: Sequence[Record]) -> StepTime:
    """Return the mean of the step times that the trainings measured themselves."""
    median = mean([record.metrics["step_s"] for record in records])
    return StepTime(median_s=median, iqr_s=_mean_row([record.metrics["step_s_iqr"] for record in records]))


def mean(values: Sequence[Any]) -> Any:
    """Return the mean of a figure over trainings; if all values are equal, that value itself.

    None if the values are text that differs, or if some are missing.
    """
    if all(value == values[0] for value in values):
        return values[0]
    return float(np.mean(values)) if all(isinstance(value, Number) for value in values) else None


def mean_by_name(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each figure that every training has."""
    shared = [name for name in figures[0] if all(name in one for one in figures)]
    return {name: mean([one[name] for one in figures]) for name in shared}


def mean_of_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each score that `Quality` has."""
    return {name: mean([one.get(name) for one in scores]) for name in Quality.model_fields}


def _mean_history(histories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean curves, cut to the shortest."""
    return {
        name: [_mean_row(rows) for rows in zip(*(one[name] for one in histories), strict=False)]
        for name in History.model_fields
    }


def _mean_row(rows: Sequence[Sequence[float]]) -> list[Any]:
    return [mean(entries) for entries in zip(*rows, strict=True)]


def _samples(found: SampleSet, media: Path) -> list[SampleVideo]:
    place = os.path.relpath(found.folder, media)
    return [
        SampleVideo(**asdict(sample) | {"mp4": f"{place}/{sample.mp4}", "gif": f"{place}/{sample.gif}"})
        for sample in found.samples
    ]
