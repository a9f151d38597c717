"""Test the main figures of a training, which DVC's tables show."""

from typing import Any

import pytest

from mobius_pipeline.pipelines.evaluate.nodes import figures

METRICS: dict[str, Any] = {
    "peak_memory_bytes": 3 * 2**29,
    "step_s": 0.25,
    "heldout_loss": 0.15,
    "heldout_loss_at_steps": 0.16,
    "quality": {"prompt_match": 0.5, "frechet": 3.0},
    "steps": 300,
}


def test_they_are_what_a_person_decides_by() -> None:
    assert figures("serial", METRICS) == {
        "serial": {"peak_gib": 1.5, "step_s": 0.25, "loss_at_steps": 0.16, "loss": 0.15, "match": 0.5}
    }


@pytest.mark.parametrize("quality", [{}, {"prompt_match": None}])
def test_what_was_not_measured_is_none(quality: dict[str, Any]) -> None:
    ended = figures("sum", METRICS | {"heldout_loss_at_steps": None, "quality": quality})["sum"]
    assert ended["loss_at_steps"] == 0.15  # the training ended at equal steps
    assert ended["match"] is None
