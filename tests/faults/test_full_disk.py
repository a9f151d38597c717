"""A full disk under MLflow: the exit status reports missing records, and the same command adds them."""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.pipelines.train.nodes import train
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.training.result import TrainingResult

STEPS = 30


@pytest.fixture
def small_disk(tracked_project: Path) -> Iterator[Path]:
    """The project's `mlruns` on a disk of 3 MB."""
    folder = tracked_project / "mlruns"
    template = folder.rename(tracked_project / "template")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system takes root")
    shutil.copy(template / "mlflow.db", folder)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobius_pipeline.tracking.run.LAST_WAIT", 2.0)


def fill(folder: Path) -> Path:
    """Fill a disk completely."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def runs() -> list[Any]:
    import mlflow

    return list(mlflow.MlflowClient().search_runs(["1"]))


def steps_of(run_id: str, key: str) -> list[int]:
    import mlflow

    return [metric.step for metric in mlflow.MlflowClient().get_metric_history(run_id, key)]


def test_a_training_says_what_was_lost_and_the_same_command_fills_it_in(
    small_disk: Path,
    tracked_project: Path,
    tiny_store: Path,
    tiny_base: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = tracked_project / "data/.work"
    config = tiny.train_config(steps=STEPS, evaluate_every=5, checkpoint_every=5)
    model = tiny.variant("serial")

    def run() -> TrainingResult:
        return train(LatentsStore(tiny_store), BaseModel(tiny_base), config, model, model, work)

    def fill_at_the_first_checkpoint() -> None:
        while not list(work.glob("*/serial/step-*")):
            time.sleep(0.001)
        fill(small_disk)

    thread = threading.Thread(target=fill_at_the_first_checkpoint)
    thread.start()
    with pytest.raises(
        MobiusError, match=r"disk is full\).* Not recorded: .*metric value.*final status"
    ) as lost:
        run()
    thread.join()
    assert "run the same command again" in str(lost.value)
    (left,) = runs()
    assert left.info.status == "RUNNING"
    assert len(steps_of(left.info.run_id, "loss")) < STEPS

    (small_disk / "ballast").unlink()
    result = run()
    (whole,) = runs()
    assert (whole.info.run_id, whole.info.status) == (left.info.run_id, "FINISHED")
    for name in ("loss", "grad_norm", "learning_rate"):
        assert steps_of(whole.info.run_id, name) == list(range(1, STEPS + 1))
    assert steps_of(whole.info.run_id, "heldout_loss") == list(range(0, STEPS + 1, 5))
    history = result.metrics.history.loss
    assert whole.data.metrics["loss"] == history[-1][1]
    assert "loss of" in whole.data.tags["refilled"]
    assert "mlflow.note.content" in whole.data.tags
    assert "filled in from the training's own history" in caplog.text


def test_a_run_that_lacks_nothing_is_not_filled_in(tracked_project: Path) -> None:
    with tracking.training_run("serial", params={}, tags={}, inputs={}) as run:
        run.log_metrics({"loss": 0.5}, 1)
        run.refill({"loss": [(1, 0.5)]})
    assert steps_of(run.id, "loss") == [1]
    assert "refilled" not in runs()[0].data.tags


def test_an_artifact_without_room_is_kept_and_delivered_when_there_is(
    small_disk: Path, tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = tracked_project / "comparison.html"
    page.write_bytes(bytes(100_000))
    with tracking.comparison_run(params={}, tags={}) as run:
        run.flush()
        ballast = fill(small_disk)
        run.log_artifact(page)  # waits in vain
        assert "No space left on device" in caplog.text
        ballast.unlink()
    (kept,) = small_disk.rglob("comparison.html")
    assert kept.read_bytes() == page.read_bytes()


def test_an_evaluation_says_what_was_lost(small_disk: Path) -> None:
    with tracking.training_run("serial", params={}, tags={}, inputs={}) as run:
        pass

    def evaluate() -> None:
        with tracking.attached_run(run.id, "serial") as attached:
            fill(small_disk)
            attached.log_metrics({"quality/motion": 0.5})

    with pytest.raises(MobiusError, match="Not recorded: 1 x metric value"):
        evaluate()


def test_what_is_lost_does_not_hide_the_error_that_ends_a_run(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        with tracking.training_run("serial", params={}, tags={}, inputs={}) as run:
            run.flush()
            fill(small_disk)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "Not recorded: 1 x final status" in caplog.text
