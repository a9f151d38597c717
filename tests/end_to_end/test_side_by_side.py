"""Test serial and parallel trained at the same time in one project, as by an orchestrator."""

import json
import shutil
import subprocess
from pathlib import Path

import mlflow
import pytest

from mobius_pipeline.pipelines.modes import MODES
from project import warm_environment


@pytest.fixture
def untrained(copied: Path) -> Path:
    """The project before its trainings: no results, checkpoints, runs or MLflow database."""
    shutil.rmtree(copied / "data/.work")
    shutil.rmtree(copied / "mlruns")
    for mode in MODES:
        shutil.rmtree(copied / f"data/06_models/{mode}")
    return copied


def test_both_modes_train_at_the_same_time(untrained: Path, finished_project: Path) -> None:
    """Each trains as it does alone, and MLflow's database, which the first of them creates, has both.

    They train longer than in other tests, so that they overlap.
    """
    runs = {
        mode: subprocess.Popen(
            [
                "kedro",
                "run",
                f"--pipelines=train_{mode}",
                "--params=train.steps=40,train.equal_compute=false",
            ],
            cwd=untrained,
            env=warm_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for mode in MODES
    }
    said = {mode: run.communicate(timeout=600)[0] for mode, run in runs.items()}
    assert [run.returncode for run in runs.values()] == [0, 0], said

    client = mlflow.MlflowClient(f"sqlite:///{untrained / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("mobius")
    assert experiment is not None
    tracked = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in tracked.items()} == dict.fromkeys(MODES, "FINISHED")
    starts, ends = (
        [getattr(run.info, time) for run in tracked.values()] for time in ("start_time", "end_time")
    )
    assert max(starts) < min(ends)  # otherwise this test shows nothing
    for mode in MODES:
        history, alone = losses(untrained, mode), losses(finished_project, mode)
        assert len(history) == 40 > len(alone)
        assert history[: len(alone)] == alone
        recorded = client.get_metric_history(tracked[mode].info.run_id, "loss")
        assert [[one.step, one.value] for one in recorded] == history
    assert not list(untrained.glob("data/**/.*.partial"))


def losses(project: Path, mode: str) -> list[list[float]]:
    """Return step and loss of each step of a finished training."""
    metrics = json.loads((project / f"data/06_models/{mode}/metrics.json").read_text())
    return [row[:2] for row in metrics["history"]["loss"]]
