"""Losses at a step."""

import training_example
from mobius_pipeline.comparison.points import at
from mobius_pipeline.comparison.trainings import Training


def test_the_loss_at_the_end_counts_for_a_step_beside_it() -> None:
    metrics = training_example.metrics()
    one = Training(training_example.description(), metrics)
    for step in (metrics.steps - 1, metrics.steps, metrics.steps + 1):
        found = at(one, step)
        assert found is not None
        assert (found.loss, found.by_clip) == (metrics.heldout_loss, metrics.heldout_by_clip.end)
    assert at(one, metrics.steps - 2) is None


def test_the_loss_at_equal_steps_counts_for_a_step_beside_it() -> None:
    metrics = training_example.metrics(
        steps=500, heldout_at_steps={"loss": 0.16, "by_timestep": {}, "by_clip": {}}
    )
    one = Training(training_example.description(), metrics)  # measured after 300 steps, and continued
    for step in (299, 300, 301):
        found = at(one, step)
        assert found is not None
        assert found.loss == 0.16
    assert at(one, 298) is None
