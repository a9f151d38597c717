"""The whole chain, tiny, as a user starts it: real files, real stages, a real database behind MLflow."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mobius_pipeline.clips.write import write_gif, write_mp4, write_webm, write_webp
from project import make_project, merged, run


def test_compares_both_modes(finished_project: Path) -> None:
    comparison = json.loads((finished_project / "data/08_reporting/comparison.json").read_text())
    assert all(comparison["fairness"].values())
    serial, parallel = (comparison["columns"][mode] for mode in ("serial", "parallel"))
    assert serial["heldout_loss_start"] == pytest.approx(parallel["heldout_loss_start"])
    assert comparison["t2i"]["heldout_loss"] == serial["heldout_loss_start"]
    for mode in (serial, parallel):
        fallen = 100 * (mode["heldout_loss"] / mode["heldout_loss_start"] - 1)
        change = comparison["heldout_change"]["serial" if mode is serial else "parallel"]
        assert change["percent"] == pytest.approx(fallen)
        assert change["low"] < change["percent"] < change["high"]
        assert mode["heldout_loss"] != mode["heldout_loss_start"]
        assert mode["peak_memory_bytes"] > 0
        assert mode["step_s"] > 0
        assert [step for step, *_ in mode["history"]["heldout"]] == [0, 4, 8]
    prompts = [[sample["prompt"] for sample in mode["samples"]] for mode in (serial, parallel)]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 3
    assert comparison["references"]["still"]["dynamic_degree"] == 0
    page = (finished_project / "data/08_reporting/comparison.html").read_text()
    assert page.count("data:video/mp4") == 9  # real, serial and parallel of three prompts


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
        assert [point.step for point in client.get_metric_history(runs[mode].info.run_id, "loss")] == [
            *range(1, 9)
        ]
        assert {file.path for file in client.list_artifacts(runs[mode].info.run_id, "samples")} >= {
            "samples/000.mp4"
        }
        previews = [file.path for file in client.list_artifacts(runs[mode].info.run_id, "previews")]
        assert previews == ["previews/step-00000004", "previews/step-00000008"]
        assert all(len(client.list_artifacts(runs[mode].info.run_id, folder)) == 2 for folder in previews)
    assert "relative/peak_memory_bytes" in runs["comparison"].data.metrics


def test_second_run_encodes_nothing_and_trains_nothing(finished_project: Path) -> None:
    said = " ".join(run(finished_project, "kedro", "run", "--pipelines=encode,train_serial").split())
    assert "48 already encoded, 0 to encode" in said
    assert "Going on from step 8 of 8" in said


def own_clips(folder: Path) -> dict[str, str]:
    """Write clips as a user has them; returns the reasons that the bad ones must be left out for."""
    rng = np.random.default_rng(0)

    def film(name: str, frames: int = 20, height: int = 50, width: int = 70, fps: float = 12) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        still = rng.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 3), dtype=np.uint8)
        moving = np.stack([np.roll(still, step, axis=1) for step in range(frames)])
        pixels = moving.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
        write = {".mp4": write_mp4, ".webm": write_webm, ".gif": write_gif, ".webp": write_webp}[path.suffix]
        write(path, pixels, fps)
        return path

    for index in range(12):
        film(f"Ferien am Meer/{index} & größer.mp4", fps=25, width=96 + 2 * index).with_suffix(
            ".txt"
        ).write_text(f"sea number {index}", encoding="utf-8")
    rows = [("file", "caption")]
    for index, suffix in enumerate((".webm", ".gif", ".webp") * 3):
        name = f"sub/folder/日本 {index}{suffix}"
        size = (
            {"height": 34, "width": 46} if suffix == ".webm" else {"height": 45, "width": 37}
        )  # odd ones too
        film(name, fps=10, **size)
        rows.append((name, f"noise number {index}"))
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    film("no words.mp4")
    film("short.gif", frames=2).with_suffix(".txt").write_text("a blink")
    whole = film("cut.mp4")
    whole.write_bytes(whole.read_bytes()[:300])
    (folder / "letter.mp4").write_text("Dear reader, this is no video.")
    return {"no words.mp4": "no caption", "short.gif": "frames", "cut.mp4": "", "letter.mp4": ""}


def test_own_clips_go_through(tmp_path: Path, mlflow_template: Path) -> None:
    """Other sizes, rates and names, and files that cannot be used; `clips` and `buckets` alone change."""
    mine, project = tmp_path / "my clips", tmp_path / "project"
    reasons = own_clips(mine)
    project.mkdir()
    make_project(project, mlflow_template)
    path = project / "conf/base/globals.yml"
    wide = {"frames": 4, "height": 16, "width": 32}
    changes = {"clips": str(mine), "clip": {"buckets": [wide]}}
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes)))
    run(project, "kedro", "run")
    quarantine = pd.read_parquet(project / "data/03_primary/quarantine.parquet").set_index("path")["reason"]
    assert set(quarantine.index) == set(reasons)
    assert all(reason and reasons[name] in reason for name, reason in quarantine.items())
    assert len(pd.read_parquet(project / "data/03_primary/manifest.parquet")) == 21
    (index,) = (project / "data/05_model_input/latents").glob("*/index.parquet")
    assert pd.read_parquet(index)["width"].value_counts().to_dict() == {32: 12, 16: 9, 0: 1}
    comparison = json.loads((project / "data/08_reporting/comparison.json").read_text())
    assert comparison["columns"]["parallel"]["heldout_loss"] > 0
