"""How sure a figure is: Student's intervals over clips or over training seeds."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from mobius_pipeline.comparison.model import Change

CONFIDENCE = 0.95


def reach(values: Sequence[float]) -> float | None:
    """Half the width of the mean's 95% interval, in the unit of `values`; None for fewer than two."""
    if len(values) < 2:
        return None
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error


def paired_change(
    before: Mapping[str, float], after: Mapping[str, float], *, over: Literal["seeds", "clips"]
) -> Change:
    """Compare two models' losses on the same clips with the same noise, or with the same training seeds.

    Clips differ far more from each other than models do on one clip; the differences by clip leave that out.
    Over clips, another training seed is not in the interval. The spread of `before` never is.

    Args:
        before: Loss by clip, or by seed.
        after: The other model's, of the same clips or seeds.
        over: Which of both.

    Returns:
        The mean difference in per cent of the mean of `before`, with its 95% interval.
    """
    assert before.keys() == after.keys()
    scale = 100 / float(np.mean(list(before.values())))
    differences = [(after[key] - before[key]) * scale for key in before]
    percent, beside = float(np.mean(differences)), reach(differences)
    low, high = (None, None) if beside is None else (percent - beside, percent + beside)
    return Change(percent=percent, low=low, high=high, pairs=len(differences), over=over)
