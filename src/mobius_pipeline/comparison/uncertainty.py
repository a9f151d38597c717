"""Confidence intervals by Student's t-distribution, over clips or over training seeds."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from mobius_pipeline.comparison.model import Change

CONFIDENCE = 0.95


def ci_half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the mean's 95% interval, in the unit of `values`; None if fewer than two."""
    if len(values) < 2:
        return None
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error


def paired_change(
    before: Mapping[str, float], after: Mapping[str, float], *, over: Literal["seeds", "clips"]
) -> Change:
    """Compare two models' losses on the same clips with the same noise, or with the same training seeds.

    Losses are paired because they differ far more between clips than between models on one clip. An interval
    over clips does not include the variation between training seeds. The mean of `before`, which scales the
    differences, counts as exact.

    Args:
        before: Loss of the reference by clip or by seed.
        after: Loss of the other model, with the same keys.
        over: What the keys are.

    Returns:
        The mean difference in per cent of the mean of `before`, with its 95% interval.
    """
    assert before.keys() == after.keys()
    scale = 100 / float(np.mean(list(before.values())))
    differences = [(after[key] - before[key]) * scale for key in before]
    percent, half = float(np.mean(differences)), ci_half_width(differences)
    low, high = (None, None) if half is None else (percent - half, percent + half)
    return Change(percent=percent, low=low, high=high, pairs=len(differences), over=over)
