"""Thin out a training's curves for `comparison.json`; the MLflow run keeps every step."""

from collections.abc import Sequence
from statistics import fmean

from mobius_pipeline.training.metrics import Curves, Row

MOST_ROWS = 300  # per curve: as many as a chart can show


def thinned(curves: Curves) -> Curves:
    """Return the curves with about `MOST_ROWS` rows each at most."""
    return Curves(loss=averaged(curves.loss), heldout=picked(curves.heldout))


def averaged(rows: Sequence[Row]) -> list[Row]:
    """Return one row per group of neighbours: their mean value, at the step and seconds of the last.

    Training losses are noisy, so single steps would not show the trend.
    """
    stride = -(-len(rows) // MOST_ROWS)
    groups = [rows[start : start + stride] for start in range(0, len(rows), stride or 1)]
    return [(group[-1][0], fmean(row[1] for row in group), group[-1][2]) for group in groups]


def picked(rows: Sequence[Row]) -> list[Row]:
    """Keep every n-th row, always with the first and the last.

    Held-out losses are measured on fixed noise, so they are not averaged.
    """
    stride = -(-len(rows) // MOST_ROWS)
    kept = [*rows[:: stride or 1]]
    return kept if not rows or kept[-1] == rows[-1] else [*kept, rows[-1]]
