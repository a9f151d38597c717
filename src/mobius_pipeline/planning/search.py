"""The largest batch or frame count whose step fits a memory, by few predictions."""

import math
from collections.abc import Callable


def largest_fit(peak: Callable[[int], int], budget: int, *, first: int, floor: int) -> int:
    """Find the largest count whose peak is within the budget; 0 if none is.

    A step's live bytes grow in batch and in frames along straight lines, one for every moment of the step
    (attention keeps no scores), so their peak is convex: a slope between two counts is a lower bound on the
    slope beyond them. The answer's own peak is always predicted. That one more does not fit is either
    predicted as well or follows from that bound; the bound is exact but for the allocator's rounding
    (512 bytes a tensor).

    Args:
        peak: Predicts the peak of a count, in bytes; the expensive part.
        budget: Bytes.
        first: A count to begin with, at least 1.
        floor: Bytes that stay whatever the count; a hint where to search, not the answer.
    """
    if floor >= budget:
        return 0
    known = {first: peak(first)}
    while True:
        fits = sorted(count for count, nbytes in known.items() if nbytes <= budget)
        over = min((count for count, nbytes in known.items() if nbytes > budget), default=None)
        best = fits[-1] if fits else 0
        if over == best + 1 or (len(fits) > 1 and _next_is_over(fits[-2], best, known, budget)):
            return best
        count = _guess(known, budget, best, over, floor)
        known[count] = peak(count)


def _next_is_over(before: int, best: int, known: dict[int, int], budget: int) -> bool:
    slope = (known[best] - known[before]) / (best - before)
    return known[best] + slope > budget


def _guess(known: dict[int, int], budget: int, best: int, over: int | None, floor: int) -> int:
    """Where the line through the two counts around the budget, or the two nearest below, crosses it.

    The guess lies strictly between the bounds; after a few of them, where a kink misleads the line, in their
    middle.
    """
    points = sorted({0: floor, **known})
    if over is not None and len(known) > _LINES:
        return (best + over) // 2
    right = over if over is not None else best
    left = points[points.index(right) - 1]
    heights = {0: floor, **known}
    slope = max((heights[right] - heights[left]) / (right - left), 1.0)
    count = math.floor(left + (budget - heights[left]) / slope)
    return max(best + 1, count if over is None else min(count, over - 1))


_LINES = 4  # counts known before lines give way to halving
