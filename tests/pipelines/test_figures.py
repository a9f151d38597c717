"""The few figures of a training that DVC's tables show."""

from typing import Any

import pytest

from mobius_pipeline.pipelines.evaluate.nodes import figures

METRICS: dict[str, Any] = {
    "peak_memory_bytes": 3 * 2**29,
    "step_s": 0.25,
    "heldout_loss": 0.15,
    "heldout_loss_at_steps": 0.16,
    "trainable_parameters": 1_500_000,
    "quality": {"prompt_match": 0.5, "frechet": 3.0},
    "steps": 300,
}


def test_they_are_what_a_person_decides_by() -> None:
    assert figures(METRICS) == {
        "peak_memory_gib": 1.5,
        "step_s": 0.25,
        "heldout_loss_at_steps": 0.16,
        "heldout_loss": 0.15,
        "prompt_match": 0.5,
        "trainable_parameters": 1_500_000,
    }


@pytest.mark.parametrize("quality", [{}, {"prompt_match": None}])
def test_what_was_not_measured_is_none(quality: dict[str, Any]) -> None:
    ended = figures(METRICS | {"heldout_loss_at_steps": None, "quality": quality})
    assert ended["heldout_loss_at_steps"] == 0.15  # the training ended at equal steps
    assert ended["prompt_match"] is None
