"""Find the largest batch or frame count whose step fits a memory, with few predictions."""

import math
from collections.abc import Callable


def largest_fit(peak: Callable[[int], int], budget: int, *, first: int, floor: int) -> int:
    """Find the largest count whose peak is within the budget; 0 if none is.

    At each moment of a step, the live bytes grow linearly with batch and frames, because attention keeps no
    scores. Their peak is therefore convex: the slope between two counts is a lower bound on the slope beyond
    them. The peak of the result is always predicted. That the next count does not fit is either predicted,
    too, or follows from this bound, which is exact up to the allocator's rounding (512 bytes per tensor).

    Args:
        peak: Predicts the peak of a count, in bytes; expensive.
        budget: Available bytes.
        first: Count to start with, at least 1.
        floor: Bytes that do not depend on the count; only guides the search.
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
    """Return the count where a line through two known counts crosses the budget.

    They are the counts around the budget, or the two largest below it. The guess is strictly between the
    bounds. After a few guesses it is the middle of the bounds, because a kink in the peak can mislead the
    line.
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


_LINES = 4  # with more known counts, the search halves instead of drawing lines
