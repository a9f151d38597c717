"""Test the whole chain at a tiny size as a user runs it, with real files, stages and MLflow database."""

import json
from pathlib import Path

import pytest

from project import run


def test_compares_both_modes(finished_project: Path) -> None:
    comparison = json.loads((finished_project / "data/08_reporting/comparison.json").read_text())
    assert all(comparison["fairness"].values())
    serial, parallel = (comparison["columns"][mode] for mode in ("serial", "parallel"))
    assert serial["heldout_loss_start"] == pytest.approx(parallel["heldout_loss_start"])
    assert comparison["start"]["heldout_loss"] == serial["heldout_loss_start"]
    for mode in (serial, parallel):
        fallen = 100 * (mode["heldout_loss"] / mode["heldout_loss_start"] - 1)
        change = comparison["heldout_change"]["serial" if mode is serial else "parallel"]
        assert change["percent"] == pytest.approx(fallen)
        assert change["low"] < change["percent"] < change["high"]
        assert mode["heldout_loss"] != mode["heldout_loss_start"]
        assert mode["peak_memory_bytes"] > 0
        assert mode["step_s"] > 0
        assert [step for step, *_ in mode["history"]["heldout"]][:3] == [0, 4, 8]
    assert serial["steps"] == 8 < parallel["steps"]
    points = comparison["points"]
    assert points["steps"]["steps"] == {"serial": 8, "parallel": 8}
    assert points["compute"]["steps"] == {"serial": 8, "parallel": parallel["steps"]}
    spent = points["compute"]["flops"]
    assert abs(spent["parallel"] - spent["serial"]) <= parallel["flops_per_step"]
    for point in ("steps", "compute"):
        assert points[point]["against"]["parallel"]["pairs"] == comparison["data"]["heldout"]
    assert points["compute"]["losses"]["parallel"] == parallel["heldout_loss"]
    assert "Recommended: " in comparison["verdict"]
    prompts = [[sample["prompt"] for sample in mode["samples"]] for mode in (serial, parallel)]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 3
    assert comparison["references"]["still"]["dynamic_degree"] == 0
    page = (finished_project / "data/08_reporting/comparison.html").read_text()
    assert page.count("data:video/mp4") == 9  # real, serial and parallel videos of three prompts


def test_records_a_run_each(finished_project: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{finished_project / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("mobius")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["comparison", "parallel", "plan", "serial"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for mode in ("serial", "parallel"):
        metrics = runs[mode].data.metrics
        assert metrics["memory/peak_gib"] > 0
        assert metrics["time/step_s"] > 0
        assert "quality/flicker" in metrics
        steps = [point.step for point in client.get_metric_history(runs[mode].info.run_id, "loss")]
        assert steps == [*range(1, len(steps) + 1)]
        assert len(steps) == 8 if mode == "serial" else len(steps) > 8
        assert {file.path for file in client.list_artifacts(runs[mode].info.run_id, "samples")} >= {
            "samples/000.mp4"
        }
        previews = [file.path for file in client.list_artifacts(runs[mode].info.run_id, "previews")]
        assert previews[:2] == ["previews/step-00000004", "previews/step-00000008"]
        assert all(len(client.list_artifacts(runs[mode].info.run_id, folder)) == 2 for folder in previews)
    assert "relative/peak_memory_bytes" in runs["comparison"].data.metrics


def test_second_run_encodes_nothing_and_trains_nothing(copied: Path) -> None:
    said = " ".join(run(copied, "kedro", "run", "--pipelines=encode,train_serial").split())
    assert "48 already encoded, 0 to encode" in said
    assert "Resuming from step 8 of 8" in said
