"""How much one model's held-out loss differs from another's, clip by clip, and how sure that is."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def paired_change(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float | int | None]:
    """Compare two models' losses on the same clips with the same noise.

    Clips differ far more from each other than models do on one clip; the differences by clip leave that out.
    The interval is Student's, over clips; another training seed is not in it, nor is the spread of `before`.

    Args:
        before: Loss by clip.
        after: Loss of the same clips under the other model.

    Returns:
        `percent`, the mean difference in per cent of the mean of `before`; `low` and `high`, its 95% interval
        (None where there are fewer than two clips); `clips`, their number.
    """
    assert before.keys() == after.keys()
    differences = np.array([after[clip] - before[clip] for clip in before])
    scale = 100 / np.mean(list(before.values()))
    percent, clips = float(differences.mean() * scale), len(differences)
    if clips < 2:
        return {"percent": percent, "low": None, "high": None, "clips": clips}
    error = float(differences.std(ddof=1) * scale / np.sqrt(clips))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, clips - 1)) * error
    return {"percent": percent, "low": percent - reach, "high": percent + reach, "clips": clips}
