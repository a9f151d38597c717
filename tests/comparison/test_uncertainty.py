import numpy as np
import pytest
from scipy import stats

from mobius_pipeline.comparison.model import Change
from mobius_pipeline.comparison.uncertainty import paired_change


def losses(values: list[float]) -> dict[str, float]:
    return {str(index): value for index, value in enumerate(values)}


def test_agrees_with_scipy_s_paired_test() -> None:
    draws = np.random.default_rng(0)
    before = draws.normal(0.13, 0.05, 28)  # clips differ by far more than the models do
    after = before - 0.004 + draws.normal(0, 0.003, 28)
    change = paired_change(losses(before.tolist()), losses(after.tolist()), over="clips")
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    scale = 100 / before.mean()
    assert change.low == pytest.approx(expected.low * scale)
    assert change.high == pytest.approx(expected.high * scale)
    assert change.percent == pytest.approx((after.mean() - before.mean()) * scale)
    assert change.pairs == 28


def test_pairs_by_clip_and_not_by_place() -> None:
    change = paired_change({"a": 1.0, "b": 3.0}, {"b": 2.7, "a": 0.9}, over="clips")
    assert change.percent == pytest.approx(-10)


def test_one_clip_has_no_interval() -> None:
    change = paired_change({"a": 2.0}, {"a": 1.0}, over="seeds")
    assert change == Change(percent=-50.0, low=None, high=None, pairs=1, over="seeds")
