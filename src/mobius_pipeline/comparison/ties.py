"""What counts as a tie: the same rule wherever a comparison is shown."""

import math
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def clearly_lower(found: Json) -> bool:
    """Whether a loss is below the other: the whole 95% interval of their difference is below zero."""
    return found["low"] is not None and found["high"] < 0


def clearly_higher(found: Json) -> bool:
    """Whether a loss is above the other, in the same sense."""
    return found["low"] is not None and found["low"] > 0


def losses_tie(found: Json) -> bool:
    """Whether the interval of two losses' difference holds zero; without an interval nothing is known."""
    return found["low"] is not None and not clearly_lower(found) and not clearly_higher(found)


def steps_tie(first: Json, other: Json) -> bool:
    """Whether the middle halves of two columns' step times overlap."""
    one, two = first["step_s_iqr"], other["step_s_iqr"]
    return bool(one[0] <= two[1] and two[0] <= one[1])


def matches_differ(first: Json, other: Json) -> int:
    """1 or -1 where more or fewer of `other`'s samples match their prompt, by two standard errors; else 0."""
    shares = [column["quality"]["prompt_match"] for column in (first, other)]
    number = min(scored(first), scored(other))
    pooled = sum(shares) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / number) if number else math.inf
    gap = shares[1] - shares[0]
    return 0 if abs(gap) <= 2 * error else (1 if gap > 0 else -1)


def scored(column: Json) -> int:
    """How many samples a column's shares are of: every run was sampled."""
    return len(column["samples"]) * len(column["seeds"])
