"""The learning rate against values computed by hand."""

from typing import Any

import pytest

import tiny
from mobius_pipeline.training.config import OptimizerConfig
from mobius_pipeline.training.schedule import learning_rates


def rates(batch_size: int = 2, **changes: Any) -> list[float]:
    settings = tiny.train_config().optimizer.model_dump() | {"learning_rate": 0.8} | changes
    rate = learning_rates(OptimizerConfig(**settings), 4, batch_size)
    return [rate(step) for step in range(4)]


def test_constant() -> None:
    assert rates(schedule="constant", warmup_steps=0) == pytest.approx([0.8] * 4)


def test_constant_after_warmup() -> None:
    assert rates(schedule="constant_with_warmup", warmup_steps=2) == pytest.approx([0.4, 0.8, 0.8, 0.8])


def test_linear_falls_to_zero_after_the_last_step() -> None:
    assert rates(schedule="linear", warmup_steps=0) == pytest.approx([0.64, 0.48, 0.32, 0.16])


def test_cosine_falls_after_the_warmup() -> None:
    """With one step of warm-up: the peak, then half cosines of a quarter, two and three quarters."""
    expected = [0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0.4 * (1 - 0.5**0.5)]
    assert rates(schedule="cosine", warmup_steps=1) == pytest.approx(expected)


@pytest.mark.parametrize(("rule", "peak"), [("linear", 3.2), ("sqrt", 1.6)])
def test_scaled_from_the_batch_that_the_rate_was_chosen_for(rule: str, peak: float) -> None:
    scaling = {"rule": rule, "reference_batch": 2}
    found = rates(batch_size=8, schedule="constant_with_warmup", warmup_steps=2, scaling=scaling)
    assert found == pytest.approx([peak / 2, peak, peak, peak])


def test_constant_refuses_a_warmup() -> None:
    with pytest.raises(ValueError, match="constant_with_warmup"):
        rates(schedule="constant", warmup_steps=2)
