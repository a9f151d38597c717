"""Curves of a training short enough for a file in git; the run in MLflow keeps every step."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

Row = Sequence[float]  # (step, value, seconds)

MOST_ROWS = 300  # of a curve: as many as a chart shows


def thinned(history: dict[str, Any]) -> dict[str, Any]:
    """The history of a training with at most about `MOST_ROWS` rows a curve."""
    return {"loss": averaged(history["loss"]), "heldout": picked(history["heldout"])}


def averaged(rows: Sequence[Row]) -> list[list[float]]:
    """One row for each few neighbours: their mean value, at the last one's step and seconds.

    A training loss scatters from step to step: single steps picked out would show another curve.
    """
    stride = -(-len(rows) // MOST_ROWS)
    groups = [rows[start : start + stride] for start in range(0, len(rows), stride or 1)]
    return [[group[-1][0], fmean(row[1] for row in group), *group[-1][2:]] for group in groups]


def picked(rows: Sequence[Row]) -> list[list[float]]:
    """Every so manieth row, the first and the last among them: each held-out loss is an exact figure."""
    stride = -(-len(rows) // MOST_ROWS)
    kept = [*rows[:: stride or 1]]
    return [list(row) for row in (kept if not rows or kept[-1] == rows[-1] else [*kept, rows[-1]])]
