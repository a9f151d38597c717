"""Test the MLflow run of a plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from test_report import cost

from mobius_pipeline.planning.devices import known_device
from mobius_pipeline.planning.record import record_plan
from mobius_pipeline.planning.report import build_plan
from mobius_pipeline.planning.roofline import Operation
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.planning.timing import Timing


@pytest.mark.slow
def test_hours_and_cost_are_metrics_and_in_the_note(tracked_project: Path) -> None:
    work = (Operation("product", False, 10**13, 0),)
    costs = {name: replace(cost(10), operations=work) for name in ("serial", "parallel")}
    timing = Timing(known_device("L40S"), steps=1000, price_per_hour=2.0)
    report = build_plan(costs, StepShape(2, 8, 16, 16, 77), (8, 16), 1.0, timing=timing)
    record_plan(report)
    client = MlflowClient(f"sqlite:///{tracked_project}/mlruns/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    time = report.modes["parallel"].time
    assert time is not None
    for key in ("step_s", "hours", "cost"):
        assert run.data.metrics[f"predicted/parallel_{key}"] == getattr(time, key)
    assert run.data.metrics["ratio/hours"] == 1.0
    assert (
        "serial takes 2.05 min for 1,000 steps on L40S, which costs" in run.data.tags["mlflow.note.content"]
    )
