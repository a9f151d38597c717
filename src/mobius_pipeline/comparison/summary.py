"""Format the comparison's figures as text, and its main figures as a table."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mobius_pipeline.comparison.model import Column, Comparison, Point, Points, Relative
from mobius_pipeline.comparison.ties import losses_tie, matches_differ, steps_tie
from mobius_pipeline.runtime.units import size

Tie = Callable[[Column, Column], bool]

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"  # shown if nothing was measured


class Row(NamedTuple):
    """One measure of the comparison, as text.

    Attributes:
        name: Name of the measure.
        start: Value of the untrained base; empty if it has none.
        values: One per column.
        changes: Change of each other column relative to the first, with "(tie)" where it is one.
    """

    name: str
    start: str
    values: tuple[str, ...]
    changes: tuple[str, ...]


def relative_percent(first: Column, other: Column, points: Points, label: str) -> Relative:
    """Return the changes of the column `other`, labelled `label`, relative to the first."""
    return Relative(
        trainable_parameters=change(first.trainable_parameters, other.trainable_parameters),
        peak_memory_bytes=change(first.peak_memory_bytes, other.peak_memory_bytes),
        step_s=change(first.step_s, other.step_s),
        training_s=change(first.training_s, other.training_s),
        heldout_loss=change(first.heldout_loss, other.heldout_loss),
        loss_at_steps=points.steps.against[label].percent,
        loss_at_compute=points.compute.against[label].percent,
        loss_at_time=points.time.against[label].percent,
        prompt_match=change(first.quality.prompt_match, other.quality.prompt_match),
    )


def change(first: float | None, other: float | None) -> float | None:
    """Return 100 * (other / first - 1); None if `first` is zero or a value was not measured."""
    return None if not first or other is None else 100 * (other / first - 1)


def rows(comparison: Comparison) -> list[Row]:
    """Return the comparison's table, one row per measure, the most important first."""
    columns, changes = comparison.columns, comparison.relative_percent
    first = columns[comparison.first]

    def row(
        name: str, text: Callable[[Column], str], of: Callable[[Relative], float | None], tie: Tie = _never
    ) -> Row:
        return Row(
            name,
            "",
            tuple(map(text, columns.values())),
            tuple(_changed(of(one), tie(first, columns[label])) for label, one in changes.items()),
        )

    return [
        row("Peak memory", lambda one: size(one.peak_memory_bytes), lambda one: one.peak_memory_bytes),
        row("Median step time", lambda one: duration(one.step_s), lambda one: one.step_s, steps_tie),
        _loss_row("Loss, equal steps", comparison, comparison.points.steps),
        _loss_row("Loss, equal compute", comparison, comparison.points.compute),
        _loss_row("Loss, equal time", comparison, comparison.points.time),
        row(
            "Samples that match",
            lambda one: share(one.quality.prompt_match),
            lambda one: one.prompt_match,
            lambda one, other: matches_differ(one, other) == 0,
        ),
        row(
            "Trained weights",
            lambda one: count(one.trainable_parameters),
            lambda one: one.trainable_parameters,
        ),
    ]


def _never(_: Column, __: Column) -> bool:
    return False


def _loss_row(name: str, comparison: Comparison, point: Point) -> Row:
    """Return the losses at a point, with half the 95% interval over training seeds if there are several."""
    return Row(
        name,
        _loss(comparison.start.heldout_loss),
        tuple(_with_half(point.losses[label], point.ci95_half[label]) for label in comparison.columns),
        tuple(
            _changed(point.against[label].percent, losses_tie(point.against[label]))
            for label in comparison.others
        ),
    )


def _changed(value: float | None, tie: bool) -> str:
    return f"{percent(value)} (tie)" if tie and value is not None else percent(value)


def _with_half(loss: float, half: float | None) -> str:
    return _loss(loss) if half is None else f"{_loss(loss)} ± {_loss(half)}"


def _loss(value: float) -> str:
    return f"{value:.4f}"


def duration(seconds: float) -> str:
    """Format seconds in ms, s, min or h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 600:  # in seconds, so that trainings of a few minutes are easy to compare
        return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(number: float) -> str:
    """Format a number in thousands, millions or billions."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return f"{number:.0f}"


def percent(value: float | None) -> str:
    """Format a relative change in per cent, with its sign."""
    if value is None:
        return NONE
    text = f"{abs(value):.1f}%"
    return text if text == "0.0%" else f"{'+' if value > 0 else MINUS}{text}"


def share(value: float | None) -> str:
    """Format a share (0 to 1) in per cent, without a sign."""
    return NONE if value is None else f"{100 * value:.0f}%"


def capitalised(label: str) -> str:
    """Return the label with its first letter in upper case, the rest unchanged."""
    return label[:1].upper() + label[1:]


def listed(words: Sequence[str]) -> str:
    """Join words for a sentence: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
