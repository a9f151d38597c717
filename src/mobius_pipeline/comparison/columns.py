"""Build a column of the comparison from the records of trainings that differ only in their seed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mobius_pipeline.comparison.curves import thinned
from mobius_pipeline.comparison.model import Column, HalfIntervals, SampleVideo, StepTime
from mobius_pipeline.comparison.trainings import Record, Training
from mobius_pipeline.comparison.uncertainty import ci_half_width
from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.metrics import Curves, Memory, Number, Row

# The figures of `Metrics` whose means a column has under the same name.
_FIGURES = (
    "steps",
    "trainable_parameters",
    "total_parameters",
    "peak_memory_bytes",
    "training_s",
    "data_s",
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
    description, watched = first.description, metrics[0].heldout_watched
    own = own_step_time(records)
    times = times or own
    return Column(
        **{name: mean([getattr(one, name) for one in metrics]) for name in _FIGURES},
        mode=description.mode,
        schedule=description.schedule,
        train_head=description.train_head,
        seeds=[record.seed for record in records],
        run_ids=[record.run_id for record in records],
        memory_breakdown_bytes=Memory(**mean_by_name([dict(one.memory_breakdown_bytes) for one in metrics])),
        step_s=times.median_s,
        step_s_iqr=times.iqr_s,
        training_step_s=own.median_s,
        heldout_loss_by_timestep=mean_by_name([one.heldout_loss_by_timestep for one in metrics]),
        heldout_loss_at_steps=mean([at and at.loss for at in (one.heldout_at_steps for one in metrics)]),
        ci95_half=HalfIntervals(
            heldout_loss=ci_half_width([one.heldout_loss for one in metrics]),
            training_s=ci_half_width([one.training_s for one in metrics]),
        ),
        watched=len(watched[0][1]) if watched else None,
        quality=mean_of_scores([record.quality for record in records]),
        history=thinned(_mean_curves([one.history for one in metrics])),
        samples=_samples(first.samples, media),
    )


def own_step_time(trainings: Sequence[Training]) -> StepTime:
    """Return the mean of the step times that the trainings measured themselves."""
    median = mean([one.metrics.step_s for one in trainings])
    return StepTime(median_s=median, iqr_s=_mean_row([one.metrics.step_s_iqr for one in trainings]))


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


def mean_of_scores(scores: Sequence[Quality]) -> Quality:
    """Return the mean of each score."""
    return Quality(**{name: mean([getattr(one, name) for one in scores]) for name in Quality.model_fields})


def _mean_curves(curves: Sequence[Curves]) -> Curves:
    """Return the mean curves, cut to the shortest."""

    def means(rows: Iterable[Sequence[Row]]) -> list[Any]:
        return [_mean_row(at) for at in zip(*rows, strict=False)]

    return Curves(loss=means(one.loss for one in curves), heldout=means(one.heldout for one in curves))


def _mean_row(rows: Sequence[Sequence[float]]) -> Any:
    return tuple(mean(entries) for entries in zip(*rows, strict=True))


def _samples(found: SampleSet, media: Path) -> list[SampleVideo]:
    place = os.path.relpath(found.folder, media)
    return [
        SampleVideo(**asdict(sample) | {"mp4": f"{place}/{sample.mp4}", "gif": f"{place}/{sample.gif}"})
        for sample in found.samples
    ]
