"""Lost records of a run are added again from the training's own files."""

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.pipelines.train.nodes import train
from mobius_pipeline.runtime.files import read_json

Rows = set[tuple[str, int, float]]
STEPS = 6
LOST = (2, 5)  # the first step that is lost, and the last


def rows(project: Path) -> Rows:
    """Return the name, step and value of every metric."""
    with closing(sqlite3.connect(project / "mlruns/mlflow.db")) as database:
        found = database.execute("SELECT key, step, value FROM metrics")
        return {row for row in found if not row[0].startswith(("time/", "system/", "memory/", "throughput/"))}


def lose(project: Path) -> None:
    """Delete the records of some steps from the database."""
    with closing(sqlite3.connect(project / "mlruns/mlflow.db")) as database, database:
        database.execute("DELETE FROM metrics WHERE step BETWEEN ? AND ?", LOST)
        database.execute("DELETE FROM latest_metrics WHERE step BETWEEN ? AND ?", LOST)


@pytest.fixture
def project(tracked_project: Path, tiny_store: Path, tiny_base: Path) -> Path:
    """A project with a finished training that has previews every second step."""
    trained(tracked_project, tiny_store, tiny_base)
    return tracked_project


def trained(project: Path, store: Path, base: Path, **changes: Any) -> None:
    previews = {"every": 2, "count": 1, "prompts": None, "seed": 0, "steps": 1, "guidance_scale": 1.0}
    settings = {"steps": STEPS, "evaluate_every": 2, "checkpoint_every": 2, "previews": previews}
    config = tiny.train_config(**settings | changes)
    model = tiny.variant("serial")
    train(LatentsStore(store), BaseModel(base), config, model, model, project / "data/.work")


def test_everything_that_was_measured_by_step_comes_back(
    project: Path, tiny_store: Path, tiny_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = rows(project)
    names = {name for name, step, _ in before if LOST[0] <= step <= LOST[1]}
    assert {"loss", "heldout_loss", "grad_norm", "learning_rate"} < names
    assert any(name.startswith("loss/") for name in names)
    assert any(name.startswith("heldout_loss/") for name in names)
    lose(project)
    assert rows(project) < before
    trained(project, tiny_store, tiny_base)
    assert rows(project) == before
    assert "grad_norm of 4 steps" in caplog.text
    assert "preview" not in caplog.text


def test_videos_that_were_kept_come_back_and_lost_ones_are_named(
    project: Path, tiny_store: Path, tiny_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (recorded,) = (project / "mlruns/artifacts").glob("*/artifacts/previews")
    (kept,) = (project / "data/.work").glob("*/serial/previews")
    steps = [f"step-{step:08d}" for step in (2, 4, 6)]
    assert sorted(path.name for path in recorded.iterdir()) == steps
    (name,) = (path.name for path in (recorded / steps[0]).iterdir())
    shutil.rmtree(recorded / steps[0])
    for folder in (recorded, kept):
        shutil.rmtree(folder / steps[1])
    with caplog.at_level(logging.WARNING):
        trained(project, tiny_store, tiny_base)
    assert (recorded / steps[0] / name).read_bytes() == (kept / steps[0] / name).read_bytes()
    assert "lacked the preview videos of step 2: filled in" in caplog.text
    assert "lacks the previews of step 4. They are lost" in caplog.text


def test_a_fork_lacks_no_previews_of_the_steps_before_it(
    project: Path, tiny_store: Path, tiny_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(project, tiny_store, tiny_base, steps=STEPS + 2, seed=1, on_mismatch="fork")
    recorded = [
        set(folder.iterdir()) for folder in (project / "mlruns/artifacts").glob("*/artifacts/previews")
    ]
    assert sorted(len(folders) for folders in recorded) == [1, 3]  # of the fork, and of the first training
    assert "lacks the previews" not in caplog.text


def test_a_step_costs_few_bytes_of_a_checkpoint(project: Path) -> None:
    (newest, *_) = sorted((project / "data/.work").glob("*/serial/step-*"), reverse=True)
    history = read_json(newest / "state.json")["history"]
    assert set(history["further"]) > {"grad_norm"}
    by_step = {name: history["further"][name] for name in history["further"] if "heldout" not in name}
    parts = [history["loss"], history["seconds"], history["waited"], *by_step.values()]
    written = (newest / "state.json").read_text()
    assert "\n" not in written.strip()
    assert sum(len(str(part)) for part in parts) / STEPS < 250
