"""Test the search for the largest sizes that fit."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from test_pipeline import UNET
from test_predict import SHAPE

import tiny
from mobius_pipeline.planning.plan import largest
from mobius_pipeline.planning.predict import predictor
from mobius_pipeline.planning.search import largest_fit
from mobius_pipeline.planning.step_shape import StepShape

PEAKS: dict[str, Callable[[int], int]] = {
    "a line": lambda count: 100 + 7 * count,
    "two lines": lambda count: max(500 + 2 * count, 100 + 9 * count),
    "three lines": lambda count: max(900, 300 + 3 * count, 20 + 31 * count),
}


@pytest.mark.parametrize("peak", PEAKS.values(), ids=PEAKS.keys())
@pytest.mark.parametrize("first", [1, 2, 50, 5000])
@pytest.mark.parametrize("budget", [99, 105, 501, 1000, 100_000])
def test_the_answer_fits_and_one_more_does_not(peak: Callable[[int], int], first: int, budget: int) -> None:
    asked: list[int] = []

    def watched(count: int) -> int:
        asked.append(count)
        return peak(count)

    best = largest_fit(watched, budget, first=first, floor=90)
    assert best == 0 or peak(best) <= budget
    assert peak(best + 1) > budget
    assert len(asked) <= 18  # the search halves if a kink misleads the lines


@pytest.mark.slow
def test_the_found_sizes_fit_a_real_prediction() -> None:
    predict = predictor(UNET, tiny.PARALLEL)
    cost = predict(SHAPE)
    budget = 3 * cost.peak_bytes
    most = largest(predict, SHAPE, cost, budget)

    def fits(shape: StepShape) -> bool:
        return predict(shape).peak_bytes <= budget

    for axis, count in most:
        assert count > getattr(SHAPE, axis)
        assert fits(replace(SHAPE, **{axis: count}))
        assert not fits(replace(SHAPE, **{axis: count + 1}))
