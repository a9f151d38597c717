"""Metrics under their names in MLflow."""

import training_example
from mobius_pipeline.training.metrics import tracked_metrics


def test_mlflow_gets_them_in_gib_and_for_the_whole_training() -> None:
    metrics = training_example.metrics()
    found = tracked_metrics(metrics)
    assert found["memory/peak_gib"] == 1.5
    assert sum(found[f"memory/{part}_gib"] for part, _ in metrics.memory_breakdown_bytes) == 1.5
    assert found["flops/training"] == 300
    assert found["eval/loss_0-249"] == 0.15
    assert "eval/loss_at_steps" not in found
