"""The learning rate against values worked out by hand."""

import pytest

import tiny
from mobius_pipeline.training.schedule import learning_rate


def rates(schedule: str, warmup_steps: int) -> list[float]:
    optimizer = tiny.train_config().optimizer
    config = optimizer.model_copy(
        update={"learning_rate": 0.8, "schedule": schedule, "warmup_steps": warmup_steps}
    )
    return [learning_rate(config, step, steps=4) for step in range(4)]


def test_constant_after_warmup() -> None:
    assert rates("constant", 2) == pytest.approx([0.4, 0.8, 0.8, 0.8])


def test_cosine_falls_towards_zero() -> None:
    assert rates("cosine", 0) == pytest.approx([0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0.4 * (1 - 0.5**0.5)])


def test_cosine_falls_during_warmup_too() -> None:
    assert rates("cosine", 2)[0] == pytest.approx(0.4)
