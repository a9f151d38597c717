"""Compare the losses of trainings at three points: equal steps, equal compute and equal training time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mobius_pipeline.comparison.model import Change, Point, Points
from mobius_pipeline.comparison.trainings import Training, Trainings
from mobius_pipeline.comparison.uncertainty import ci_half_width, paired_change


@dataclass(frozen=True)
class Reached:
    """A training's held-out loss at a step, and the loss of each clip if known."""

    loss: float
    by_clip: Mapping[str, float] | None = None


def points(columns: Trainings, step_s: Mapping[str, float]) -> Points:
    """Compare every column with the first at equal steps, compute and time, up to the smallest amount spent.

    If every training has a loss over all held-out clips at that point, these are compared. Otherwise all
    losses are read off the curves, which cover the clips evaluated during training.

    Args:
        columns: Trainings by column; those of one column differ only in their seed.
        step_s: Seconds per step of each column.
    """
    flops = {label: float(records[0].metrics.flops_per_step) for label, records in columns.items()}

    def point(rate: Mapping[str, float]) -> Point:
        return _point(columns, rate, step_s, flops)

    return Points(steps=point(dict.fromkeys(columns, 1.0)), compute=point(flops), time=point(step_s))


def _point(
    columns: Trainings, rate: Mapping[str, float], step_s: Mapping[str, float], flops: Mapping[str, float]
) -> Point:
    """Compare where all columns have spent the same amount; `rate` is the amount per step of each."""
    most = {label: rate[label] * records[0].metrics.steps for label, records in columns.items()}
    budget = min(most.values())
    steps = {label: budget / rate[label] for label in columns}
    exact = all(at(record, steps[label]) for label, records in columns.items() for record in records)
    reached = {
        label: [(at(one, steps[label]) if exact else None) or read_off(one, steps[label]) for one in records]
        for label, records in columns.items()
    }
    first, *others = columns
    return Point(
        steps={label: round(count) for label, count in steps.items()},
        seconds={label: count * step_s[label] for label, count in steps.items()},
        flops={label: count * flops[label] for label, count in steps.items()},
        losses={label: float(np.mean([one.loss for one in ones])) for label, ones in reached.items()},
        ci95_half={label: ci_half_width([one.loss for one in ones]) for label, ones in reached.items()},
        against={
            label: against(columns[first], reached[first], columns[label], reached[label]) for label in others
        },
    )


def at(record: Training, step: float) -> Reached | None:
    """Return the loss over all held-out clips measured at `step`, give or take one step; None without one."""
    metrics = record.metrics
    if abs(step - metrics.steps) <= 1:
        return Reached(metrics.heldout_loss, metrics.heldout_by_clip.end)
    at_steps = metrics.heldout_at_steps
    if at_steps and abs(step - record.description.steps) <= 1:
        return Reached(at_steps.loss, at_steps.by_clip)
    return None


def read_off(record: Training, step: float) -> Reached:
    """Return the loss at `step`, interpolated linearly on the curve of the held-out loss.

    The loss of each clip is included, unless the training's version recorded only the means.
    """
    curve, watched = record.metrics.history.heldout, record.metrics.heldout_watched
    steps, losses = [point[0] for point in curve], [point[1] for point in curve]
    by_clip = None
    if [point[0] for point in watched] == steps:
        clips = watched[0][1]
        by_clip = {clip: float(np.interp(step, steps, [one[clip] for _, one in watched])) for clip in clips}
    return Reached(float(np.interp(step, steps, losses)), by_clip)


def against(
    first: Sequence[Training],
    first_reached: Sequence[Reached],
    other: Sequence[Training],
    other_reached: Sequence[Reached],
) -> Change:
    """Return how the losses of `other` differ from those of `first`.

    They are paired by seed if both columns have the same seeds and more than one. Otherwise they are paired
    by the clips that both held out, with the mean over each column's runs. If no clips are shared, the
    change has no interval.
    """
    by_seed = [
        {str(record.seed): one.loss for record, one in zip(records, reached, strict=True)}
        for records, reached in ((first, first_reached), (other, other_reached))
    ]
    if by_seed[0].keys() == by_seed[1].keys() and len(by_seed[0]) > 1:
        return paired_change(*by_seed, over="seeds")
    clips = [_by_clip(reached) for reached in (first_reached, other_reached)]
    shared = [clip for clip in clips[0] if clip in clips[1]]
    if not shared:
        losses = [float(np.mean(list(losses.values()))) for losses in by_seed]
        percent = 100 * (losses[1] / losses[0] - 1)
        return Change(percent=percent, low=None, high=None, pairs=0, over="clips")
    return paired_change(*({clip: one[clip] for clip in shared} for one in clips), over="clips")


def _by_clip(reached: Sequence[Reached]) -> dict[str, float]:
    """Return the mean loss of each clip over a column's runs; empty if a run has no losses by clip."""
    known = [one.by_clip for one in reached if one.by_clip is not None]
    if len(known) < len(reached):
        return {}
    shared = [clip for clip in known[0] if all(clip in one for one in known)]
    return {clip: float(np.mean([one[clip] for one in known])) for clip in shared}
