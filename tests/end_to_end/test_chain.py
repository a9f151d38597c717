"""The whole chain, tiny, as a user starts it: real files, real stages, a real database behind MLflow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

# What differs from conf/base: sizes and steps, so that the chain takes a minute.
TINY = {
    "globals": {"clip": {"frames": 4, "height": 16, "width": 16, "fps": 8}},
    "sample_data": {"clips": 48, "workers": 1},
    "ingest": {"heldout_share": 0.25},
    "base": {
        "autoencoder": {"channels": [8, 8, 8], "latent_channels": 4, "fit": {"steps": 10, "batch_size": 4}},
        "text_to_image": {"channels": [16, 32], "heads": [2, 4], "fit": {"steps": 10, "batch_size": 4}},
    },
    "train": {"steps": 8, "batch_size": 2, "evaluate_every": 4, "evaluate_clips": 2, "checkpoint_every": 4},
    "sample": {"count": 3, "steps": 2},
    "evaluate": {"paired_steps": 2, "reference_clips": 16},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, dictionary by dictionary."""
    nested = {key: merged(base[key], value) for key, value in changes.items() if isinstance(value, dict)}
    return {**base, **changes, **nested}


def kedro(project: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", *words],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A project after `kedro run`: this one's code and configuration, made tiny."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    for name, changes in TINY.items():
        path = folder / "conf/base" / (f"{name}.yml" if name == "globals" else f"parameters_{name}.yml")
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(merged(content, changes if name == "globals" else {name: changes})))
    kedro(folder)
    return folder


def test_compares_both_modes(project: Path) -> None:
    comparison = json.loads((project / "data/08_reporting/comparison.json").read_text())
    assert all(comparison["fairness"].values())
    serial, parallel = (comparison["modes"][mode] for mode in ("serial", "parallel"))
    assert serial["heldout_loss_start"] == pytest.approx(parallel["heldout_loss_start"])
    assert comparison["t2i"]["heldout_loss"] == serial["heldout_loss_start"]
    for mode in (serial, parallel):
        assert mode["heldout_loss"] != mode["heldout_loss_start"]
        assert mode["peak_memory_bytes"] > 0
        assert mode["step_s"] > 0
        assert [step for step, *_ in mode["history"]["heldout"]] == [0, 4, 8]
    prompts = [[sample["prompt"] for sample in mode["samples"]] for mode in (serial, parallel)]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 3
    assert comparison["references"]["still"]["dynamic_degree"] == 0
    page = (project / "data/08_reporting/comparison.html").read_text()
    assert page.count("data:video/mp4") == 9  # real, serial and parallel of three prompts


def test_records_a_run_each(project: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("mobius")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["comparison", "parallel", "serial"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for mode in ("serial", "parallel"):
        metrics = runs[mode].data.metrics
        assert metrics["memory/peak_gib"] > 0
        assert metrics["time/step_s"] > 0
        assert "quality/flicker" in metrics
        assert [point.step for point in client.get_metric_history(runs[mode].info.run_id, "loss")] == [
            *range(1, 9)
        ]
        assert {file.path for file in client.list_artifacts(runs[mode].info.run_id, "samples")} >= {
            "samples/000.mp4"
        }
    assert "relative/peak_memory_bytes" in runs["comparison"].data.metrics


def test_second_run_encodes_nothing_and_trains_nothing(project: Path) -> None:
    said = " ".join(kedro(project, "--pipelines=encode,train_serial").split())
    assert "48 already encoded, 0 to encode" in said
    assert "Going on from step 8 of 8" in said
