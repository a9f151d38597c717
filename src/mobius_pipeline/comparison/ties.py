"""Decide what counts as a tie; verdict, tables and report share these rules."""

import math

from mobius_pipeline.comparison.model import Change, Column


def clearly_lower(change: Change) -> bool:
    """Whether the whole 95% interval of the loss difference is below zero."""
    return change.high is not None and change.high < 0


def clearly_higher(change: Change) -> bool:
    """Whether the whole 95% interval of the loss difference is above zero."""
    return change.low is not None and change.low > 0


def losses_tie(change: Change) -> bool:
    """Whether the 95% interval of the loss difference contains zero; False without an interval."""
    return change.low is not None and not clearly_lower(change) and not clearly_higher(change)


def steps_tie(first: Column, other: Column) -> bool:
    """Whether the interquartile ranges of two columns' step times overlap."""
    (low, high), (other_low, other_high) = first.step_s_iqr, other.step_s_iqr
    return low <= other_high and other_low <= high


def matches_differ(first: Column, other: Column) -> int:
    """Return 1 (-1) if more (fewer) of `other`'s samples match their prompt than of `first`'s, else 0.

    A difference counts if it exceeds two standard errors. It is 0, too, if a column was not scored.
    """
    shares = first.quality.prompt_match, other.quality.prompt_match
    if shares[0] is None or shares[1] is None:
        return 0
    number = min(scored(first), scored(other))
    pooled = (shares[0] + shares[1]) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / number) if number else math.inf
    gap = shares[1] - shares[0]
    return 0 if abs(gap) <= 2 * error else (1 if gap > 0 else -1)


def scored(column: Column) -> int:
    """Return the number of samples behind a column's scores: the samples of all its seeds."""
    return len(column.samples) * len(column.seeds)
