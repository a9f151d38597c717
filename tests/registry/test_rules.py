"""Which column becomes the candidate, and when the champion's alias moves."""

from typing import Any

import pytest

from comparison_example import changed, comparison
from mobius_pipeline.registry.config import CandidateRule, ChampionRule
from mobius_pipeline.registry.rules import Standing, candidate, moves


def columns(serial: dict[str, Any], parallel: dict[str, Any]) -> Any:
    """Return the comparison of the example with other figures."""
    found = changed(comparison(), "columns", "serial", **serial)
    return changed(found, "columns", "parallel", **parallel)


@pytest.mark.parametrize(
    ("losses", "peaks", "within", "chosen"),
    [
        ((0.20, 0.21), (9, 4), 0, "serial"),
        ((0.20, 0.21), (9, 4), 4, "serial"),
        ((0.20, 0.21), (9, 4), 5, "parallel"),  # within 5%, and cheaper
        ((0.20, 0.21), (4, 9), 5, "serial"),
        ((0.21, 0.20), (4, 9), 0, "parallel"),
    ],
)
def test_the_cheapest_of_those_that_are_good_enough_is_the_candidate(
    losses: tuple[float, float], peaks: tuple[int, int], within: float, chosen: str
) -> None:
    serial, parallel = (
        {"heldout_loss": loss, "peak_memory_bytes": peak} for loss, peak in zip(losses, peaks, strict=True)
    )
    rule = CandidateRule(within_percent=within, least="peak_memory_bytes")
    assert candidate(columns(serial, parallel), rule) == chosen


NEW = Standing("2", 0.20, "same")


@pytest.mark.parametrize(
    ("champion", "within", "moved", "why"),
    [
        (None, 0, True, "no champion"),
        (Standing("1", 0.21, "same"), 0, True, "0.2000 against 0.2100 of version 1"),
        (Standing("1", 0.20, "same"), 0, True, "0.2000 against 0.2000"),
        (Standing("1", 0.19, "same"), 0, False, "up to 0% more is allowed"),
        (Standing("1", 0.19, "same"), 10, True, "up to 10% more is allowed"),
        (Standing("1", 0.90, "other"), 10, False, "evaluated on other data"),
        (Standing("2", 0.20, "same"), 0, False, "it is the champion"),
    ],
)
def test_the_alias_moves_only_to_what_is_not_worse_on_the_same_data(
    champion: Standing | None, within: float, moved: bool, why: str
) -> None:
    found = moves(NEW, champion, ChampionRule(within_percent=within))
    assert found[0] is moved
    assert why in found[1]
