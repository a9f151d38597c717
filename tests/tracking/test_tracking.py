"""Runs in a real SQLite store: what is recorded, how runs end, and what is refused."""

import getpass
import hashlib
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.backend import open_client
from mobius_pipeline.tracking.git import describe, has_changes
from mobius_pipeline.tracking.outbox import UnavailableError
from mobius_pipeline.tracking.owner import is_gone, owner_tags
from mobius_pipeline.tracking.run import MAX_PARAM_LENGTH, Entry, Input, Run, Sink

NOTHING: dict[str, Any] = {"params": {}, "tags": {}, "inputs": {}}


def client() -> Any:
    import mlflow

    return mlflow.MlflowClient()


def status(run_id: str) -> str:
    return str(client().get_run(run_id).info.status)


def interrupted(mode: str, error: BaseException) -> str:
    """Record a training that ends with `error` after its first step; return the run's id."""
    runs = []

    def train() -> None:
        with tracking.training_run(mode, **NOTHING) as run:
            runs.append(run)
            run.log_metrics({"loss": 0.5}, 0)
            raise error

    with pytest.raises(type(error)):
        train()
    return str(runs[0].id)


def test_importing_tracking_does_not_import_mlflow() -> None:
    code = "import sys, mobius_pipeline.tracking.api; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_projects_path_may_hold_characters_of_urls(tmp_path: Path, mlflow_template: Path) -> None:
    project = tmp_path / "what? 100%25 #1 & ü"
    (project / "mlruns").mkdir(parents=True)
    shutil.copy(mlflow_template, project / "mlruns/mlflow.db")
    tracking.configure(tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns")), project)
    file = tmp_path / "notes.txt"
    file.write_text("kept")
    try:
        with tracking.training_run("serial", **NOTHING) as run:
            run.log_metrics({"loss": 0.5}, 0)
            run.log_artifact(file, "notes")
        assert status(run.id) == "FINISHED"
        found = sqlite3.connect(project / "mlruns/mlflow.db").execute("SELECT key, value FROM metrics")
        assert ("loss", 0.5) in found.fetchall()
    finally:
        tracking.reset()
    kept = [path for path in tmp_path.rglob("notes.txt") if path != file]
    assert [path.is_relative_to(project / "mlruns/artifacts") for path in kept] == [True]
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(project) and path.is_file()]
    assert outside == [file]  # MLflow creates an unused empty folder with the name of the undecoded URL


def test_training_run_records_everything_in_the_project(tracked_project: Path) -> None:
    params = {"optimizer": {"lr": 1e-3, "betas": [0.9, 0.999]}, "steps": 3}
    with tracking.training_run(
        "serial", params=params, tags={"base": "tiny"}, inputs={"latents": Input("ab" * 32, "data/latents")}
    ) as run:
        for step in range(3):
            run.log_metrics({"loss": 1 / (step + 1), "throughput/frames_per_s": 10.0}, step)
        run.log_metrics({"memory/peak_gib": 1.5})
        (tracked_project / "note.txt").write_text("note")
        run.log_artifact(tracked_project / "note.txt", "notes")
        run.log_image(np.zeros((8, 8, 3), np.uint8), "samples/red circle", 2)
    stored = client().get_run(run.id)
    assert stored.info.run_name == "serial"
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {
        "mode": "serial", "optimizer.lr": "0.001", "optimizer.betas": "[0.9, 0.999]", "steps": "3",
    }  # fmt: skip
    assert stored.data.tags["mode"] == "serial"
    assert stored.data.tags["base"] == "tiny"
    assert stored.data.tags["data.latents"] == "ab" * 32
    assert [m.value for m in client().get_metric_history(run.id, "loss")] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert stored.data.metrics["memory/peak_gib"] == 1.5
    (latents,) = [found.dataset for found in stored.inputs.dataset_inputs]
    assert (latents.digest, json.loads(latents.source)) == (("ab" * 32)[:12], {"uri": "data/latents"})
    artifacts = tracked_project / "mlruns/artifacts" / run.id / "artifacts"
    assert (artifacts / "notes/note.txt").read_text() == "note"
    assert list((artifacts / "images").glob("*red circle*.png"))


def test_pages_say_what_a_run_is_and_name_no_folder_of_this_machine(
    tracked_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/some where/bin/kedro", "run", "--pipelines=train_serial"])
    with tracking.training_run("serial", **NOTHING) as run:
        run.log_checkpoint("serial-4", 4, Path("data/.work/ab/serial/step-00000004"))
        run.describe("Serial: *cheap*.")
    stored = client().get_run(run.id)
    assert stored.data.tags["mlflow.note.content"] == "Serial: *cheap*."
    assert stored.data.tags["mlflow.source.name"] == "kedro run --pipelines=train_serial"
    assert stored.data.tags["mlflow.user"] == stored.info.user_id == getpass.getuser()
    (model,) = client().search_logged_models([stored.info.experiment_id])
    assert "/opt" not in str(model.tags)
    assert "`data/.work/ab/serial/step-00000004`" in model.tags["mlflow.note.content"]


def test_an_experiment_of_an_earlier_version_gets_its_page_and_keeps_what_a_user_wrote(
    tracked_project: Path,
) -> None:
    store = tracking.EmbeddedStore("mobius", tracked_project / "mlruns")
    earlier = open_client(store)
    mine = {"mlflow.note.content": "Mine."}
    experiment = earlier.create_experiment("mobius", artifact_location=str(store.artifacts), tags=mine)
    assert tracking.experiment_id(store) == experiment
    tags = client().get_experiment(experiment).tags
    assert tags["mlflow.note.content"] == "Mine."
    view = json.loads(tags[f"mlflow.sharedViewState.{tracking.VIEW}"])
    assert "metrics.`memory/peak_gib`" in json.loads(view["state"])["selectedColumns"]


def test_checkpoints_are_ranked_by_their_metrics(tracked_project: Path) -> None:
    with tracking.training_run("parallel", **NOTHING) as run:
        for step, loss in ((10, 0.3), (20, 0.2)):
            run.log_checkpoint(f"step-{step}", step, tracked_project / f"{step}", {"eval/loss": loss})
    import mlflow

    best = mlflow.search_logged_models(
        experiment_ids=[client().get_run(run.id).info.experiment_id],
        order_by=[{"field_name": "metrics.eval/loss", "ascending": True}],
        output_format="list",
    )
    assert [model.name for model in best] == ["step-20", "step-10"]
    assert best[0].params["folder"] == str(tracked_project / "20")
    assert {output.step for output in client().get_run(run.id).outputs.model_outputs} == {10, 20}


@pytest.mark.parametrize(
    ("error", "ended"),
    [(RuntimeError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "FAILED")],
)
def test_a_run_ends_truthfully_and_keeps_its_metrics(
    tracked_project: Path, error: BaseException, ended: str
) -> None:
    run_id = interrupted("serial", error)
    assert status(run_id) == ended
    assert client().get_run(run_id).data.metrics == {"loss": 0.5}


def test_sigterm_kills_the_run_and_the_old_handler_comes_back(tracked_project: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    runs = []

    def train() -> None:
        with tracking.training_run("serial", **NOTHING) as run:
            runs.append(run)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        train()
    assert caught.value.code == 143
    assert status(runs[0].id) == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_of_a_process_exits_143_and_ends_its_run(tracked_project: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from mobius_pipeline.tracking import api as tracking
        config = tracking.TrackingConfig(experiment="mobius", folder="mlruns")
        tracking.configure(config, Path({str(tracked_project)!r}))
        with tracking.training_run("serial", params={{}}, tags={{}}, inputs={{}}) as run:
            run.log_metrics({{"loss": 1.0}}, 0)
            print(run.id, flush=True)
            signal.pause()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    process.terminate()
    assert process.wait(timeout=30) == 143
    experiment = tracking.experiment_id(tracking.EmbeddedStore("mobius", tracked_project / "mlruns"))
    assert [run.info.run_id for run in client().search_runs([experiment])] == [run_id]
    assert status(run_id) == "KILLED"
    assert client().get_run(run_id).data.metrics == {"loss": 1.0}


def killed(project: Path) -> str:
    """Kill a process during a training; return the id of its run."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from mobius_pipeline.tracking import api as tracking

        config = tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns"))
        tracking.configure(config, Path(sys.argv[1]))
        with tracking.training_run("serial", params={}, tags={}, inputs={}) as run:
            run.flush()
            print(run.id, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    return done.stdout.strip()


def test_the_run_of_a_killed_process_goes_on(tracked_project: Path) -> None:
    orphan = killed(tracked_project)
    with tracking.training_run("serial", **NOTHING, resume_run_id=orphan) as run:
        assert (run.id, status(orphan)) == (orphan, "RUNNING")
    assert status(orphan) == "FINISHED"
    assert "ended" not in client().get_run(orphan).data.tags


def test_the_run_of_a_killed_process_is_closed_by_the_next(
    tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orphan = killed(tracked_project)
    with tracking.training_run("parallel", **NOTHING) as alive:
        assert status(orphan) == "KILLED"
        assert "ended without closing the run" in client().get_run(orphan).data.tags["ended"]
        with tracking.comparison_run(params={}, tags={}):
            assert status(alive.id) == "RUNNING"  # its process is alive
    assert f"({orphan}) was still RUNNING" in caplog.text


def test_a_run_whose_process_nobody_here_knows_is_left_alone(tracked_project: Path) -> None:
    elsewhere = owner_tags() | {"process.host": "elsewhere", "process.id": "1"}
    assert not is_gone(elsewhere)
    assert not is_gone({})
    assert not is_gone(owner_tags())
    assert is_gone(owner_tags() | {"process.id": "1", "process.born": "1.0"})  # reused id


def test_a_resumed_run_goes_on_and_holds_every_step_once(tracked_project: Path) -> None:
    first = interrupted("serial", KeyboardInterrupt())
    with tracking.training_run("serial", **NOTHING, resume_run_id=first) as run:
        assert status(first) == "RUNNING"
        run.log_metrics({"loss": 0.5}, 0)  # the step after the last checkpoint is repeated
        run.log_metrics({"loss": 0.4}, 1)
    assert run.id == first
    assert status(first) == "FINISHED"
    assert [(m.step, m.value) for m in client().get_metric_history(first, "loss")] == [(0, 0.5), (1, 0.4)]


def test_a_lost_run_is_replaced_with_a_warning(
    tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.training_run("serial", **NOTHING, resume_run_id="f" * 32) as run:
        assert run.id != "f" * 32
    assert "is no longer in" in caplog.text
    client().delete_run(run.id)
    with tracking.attached_run(run.id, "serial") as another:
        another.log_metrics({"quality/motion": 0.5})
    assert another.id != run.id
    assert status(another.id) == "FINISHED"


def test_evaluation_writes_into_the_run_of_its_training(tracked_project: Path) -> None:
    training = interrupted("serial", RuntimeError())
    with tracking.attached_run(training, "serial") as run:
        run.log_metrics({"quality/prompt_match": 0.5})
        run.log_params({"evaluate": {"prompts": 8}})
    stored = client().get_run(training)
    assert stored.info.status == "FAILED"
    assert stored.data.metrics == {"loss": 0.5, "quality/prompt_match": 0.5}
    assert stored.data.params["evaluate.prompts"] == "8"


def test_a_comparison_times_a_training_again_where_its_run_is(
    tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.training_run("serial", **NOTHING) as training:
        training.log_metrics({"time/step_s": 0.5})
    tracking.log_later(training.id, "serial", {"time/step_s": 0.25})
    assert client().get_run(training.id).data.metrics == {"time/step_s": 0.25}
    client().delete_run(training.id)
    tracking.log_later(training.id, "serial", {"time/step_s": 0.125})
    assert "its later metrics are not recorded" in caplog.text
    assert client().search_runs([client().get_experiment_by_name("mobius").experiment_id]) == []


def test_evaluation_again_with_other_settings_keeps_both(
    tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.training_run("serial", **NOTHING) as training:
        training.log_params({"sample": {"steps": 20}})
    with tracking.attached_run(training.id, "serial") as run:
        run.log_params({"sample": {"steps": 50}})
    stored = client().get_run(training.id)
    assert stored.data.params["sample.steps"] == "20"
    assert stored.data.tags["param.sample.steps"] == "50"
    assert "param.sample.steps" in caplog.text


def test_evaluation_refuses_the_run_of_another_mode(tracked_project: Path) -> None:
    with tracking.training_run("serial", **NOTHING) as run:
        pass
    with (
        pytest.raises(MobiusError, match="of mode serial, not parallel"),
        tracking.attached_run(run.id, "parallel"),
    ):
        pass


def test_comparison_has_a_run_of_its_own(tracked_project: Path) -> None:
    with tracking.comparison_run(params={"modes": ["serial", "parallel"]}, tags={"fair": "yes"}) as run:
        run.log_metrics({"relative_percent/peak_memory": -40.0})
    assert client().get_run(run.id).info.run_name == "comparison"
    assert status(run.id) == "FINISHED"


def test_values_that_are_not_finite_never_become_numbers(
    tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.training_run("serial", **NOTHING) as run:
        run.log_metrics({"loss": math.nan, "grad_norm": math.inf, "lr": 0.1}, 7)
    stored = client().get_run(run.id).data
    assert stored.metrics == {"lr": 0.1}
    assert stored.tags["nonfinite.loss"] == "nan at step 7"
    assert stored.tags["nonfinite.grad_norm"] == "inf at step 7"
    assert "loss is nan at step 7" in caplog.text


def test_a_moved_project_is_refused_before_it_trains(tracked_project: Path, tmp_path_factory: Any) -> None:
    with tracking.training_run("serial", **NOTHING):
        pass
    moved = tracked_project.rename(tmp_path_factory.mktemp("elsewhere") / "project")
    tracking.configure(tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns")), moved)
    with (
        pytest.raises(MobiusError, match="the project was moved or copied"),
        tracking.training_run("serial", **NOTHING),
    ):
        pass


def test_the_commit_is_recorded_in_git(tracked_project: Path) -> None:
    git = ["git", "-C", str(tracked_project), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    with tracking.training_run("serial", **NOTHING) as run:
        pass
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert client().get_run(run.id).data.tags["mlflow.source.git.commit"] == head
    assert client().get_run(run.id).data.tags["git.dirty"] == "false"


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [("data/08_reporting/serial/figures.json", False), ("dvc.lock", False), ("conf/base/globals.yml", True)],
)
def test_what_runs_write_makes_no_commit_dirty(tracked_project: Path, changed: str, dirty: bool) -> None:
    git = ["git", "-C", str(tracked_project), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tracked_project / changed).parent.mkdir(parents=True, exist_ok=True)
    (tracked_project / changed).write_text("committed")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", changed], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    assert not describe(tracked_project).endswith("-dirty")
    (tracked_project / changed).write_text("changed")
    assert describe(tracked_project).endswith("-dirty") == has_changes(tracked_project) == dirty


def test_what_a_run_came_from_is_recorded(tracked_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tracked_project / "dvc.lock").write_text("stages")
    monkeypatch.setenv("DVC_EXP_NAME", "olive-newt")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc")
    with tracking.training_run("serial", **NOTHING) as run:
        pass
    tags = client().get_run(run.id).data.tags
    assert tags["dvc.lock.sha256"] == hashlib.sha256(b"stages").hexdigest()
    assert tags["dvc.experiment"] == "olive-newt"
    assert tags["dvc.revision"] == "abc"
    assert "requirements.lock.sha256" not in tags


def test_the_load_of_the_machine_is_sampled_and_counted_on(tracked_project: Path) -> None:
    often = tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns"), system_metrics_every=0.2)
    tracking.configure(often, tracked_project)
    with tracking.training_run("serial", **NOTHING) as run:
        time.sleep(1)
    with tracking.training_run("serial", **NOTHING, resume_run_id=run.id):
        time.sleep(1)
    found = client().get_metric_history(run.id, "system/cpu_utilization_percentage")
    assert [metric.step for metric in found] == list(range(len(found)))
    assert len(found) >= 4
    assert client().get_run(run.id).data.metrics["system/system_memory_usage_megabytes"] > 0


def test_without_a_project_runs_record_nothing_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    tracking.reset()
    for _ in range(2):
        with tracking.training_run(
            "serial", params={"a": 1}, tags={"b": "c"}, inputs={"d": Input("e")}
        ) as run:
            run.log_metrics({"loss": math.nan, "lr": 1.0}, 0)
            run.log_checkpoint("step-1", 1, Path())
    with tracking.attached_run("untracked", "serial"):
        pass
    assert caplog.text.count("runs are not recorded") == 1


class Recorder(Sink):
    """Sink that keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[list[Entry]] = []
        self.params: list[dict[str, str]] = []

    def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
        if metrics:
            self.batches.append(list(metrics))
        if params:
            self.params.append(params)


def test_metrics_are_written_in_batches_that_mlflow_takes() -> None:
    sink = Recorder()
    run = Run("id", sink)
    for step in range(400):
        run.log_metrics({"a": 1, "b": 2, "c": 3}, step)
    run.flush()
    assert [len(batch) for batch in sink.batches] == [1000, 2, 198]
    assert {(entry.key, entry.step) for batch in sink.batches for entry in batch} == {
        (key, step) for key in "abc" for step in range(400)
    }


def test_a_slow_training_is_written_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("mobius_pipeline.tracking.run.time.monotonic", lambda: now[0])
    sink = Recorder()
    run = Run("id", sink)
    run.log_metrics({"loss": 1.0}, 0)
    now[0] = 11.0
    run.log_metrics({"loss": 1.0}, 1)
    run.close()
    assert [len(batch) for batch in sink.batches] == [2]


def test_parameters_go_in_hundreds_and_long_ones_are_cut_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Recorder()
    run = Run("id", sink)
    run.log_params({"long": "x" * 7000, **{f"p{i}": i for i in range(150)}})
    run.close()
    assert [len(batch) for batch in sink.params] == [100, 51]
    assert len(sink.params[0]["long"]) == MAX_PARAM_LENGTH
    assert "long has 7000 characters" in caplog.text


@pytest.mark.parametrize("key", ["serial.loss", "loss/parallel", "loss(train)", ""])
def test_keys_that_would_spoil_the_comparison_are_refused(key: str) -> None:
    with pytest.raises(MobiusError):
        Run("id", Sink()).log_metrics({key: 1.0}, 0)


def test_a_failed_write_still_ends_the_run() -> None:
    class Broken(Sink):
        ended = ""

        def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
            raise OSError("disk full")

        def end(self, status: str) -> None:
            self.ended = status

    sink = Broken()
    run = Run("id", sink)
    with pytest.raises(OSError, match="disk full"), tracking._ended_with_status(run, run.end):
        run.log_metrics({"loss": 1.0}, 0)
    assert sink.ended == "FAILED"


@pytest.fixture
def impatient() -> Iterator[None]:
    """Let sessions wait 0.1 s for a locked database instead of MLflow's 20 s."""
    from sqlalchemy import Engine, event

    def wait_less(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 100"), parameters

    event.listen(Engine, "before_cursor_execute", wait_less, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", wait_less)


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_holds_up_nothing_and_loses_nothing(
    tracked_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tracking.training_run("serial", **NOTHING) as run:
        run.flush()
        lock = sqlite3.connect(tracked_project / "mlruns/mlflow.db")
        lock.execute("BEGIN EXCLUSIVE")
        for step in range(1000):  # a full batch
            run.log_metrics({"loss": 1.0}, step)
        run.log_metrics({"loss": 0.5}, 1000)
        run.log_checkpoint("serial-1000", 1000, tracked_project)
        while "cannot be reached" not in caplog.text:
            time.sleep(0.01)
        lock.rollback()
    assert "MLflow cannot be reached ((sqlite3.OperationalError) database is locked)" in caplog.text
    assert "can be reached again" in caplog.text
    assert status(run.id) == "FINISHED"
    assert len(client().get_metric_history(run.id, "loss")) == 1001


def test_what_must_be_known_first_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Sink):
        asked = 0

        def stored_params(self) -> dict[str, str]:
            self.asked += 1
            if self.asked < 3:
                raise UnavailableError("no answer")
            return {"steps": "3"}

    monkeypatch.setattr("mobius_pipeline.tracking.outbox.FIRST_PAUSE", 0.01)
    run = Run("id", Late())
    run.log_params({"steps": 4})
    assert caplog.text.count("MLflow cannot be reached (no answer): waiting for it") == 2
    assert "keeps its first parameters" in caplog.text
    run.close()
    monkeypatch.setattr("mobius_pipeline.tracking.run.LAST_WAIT", 0.01)
    late = Run("id", Late())
    with pytest.raises(MobiusError, match=r"MLflow cannot be reached \(no answer\).*Nothing was started"):
        late.log_params({"steps": 4})
    late.close()


def test_what_is_lost_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Down(Sink):
        def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
            raise UnavailableError("no answer")

    monkeypatch.setattr("mobius_pipeline.tracking.run.LAST_WAIT", 0.1)
    run = Run("id", Down())
    run.log_metrics({"loss": 1.0, "grad_norm": 2.0}, 0)
    lost = r"until the end \(no answer\)\. Not recorded: 2 x metric value, 1 x final status"
    with pytest.raises(MobiusError, match=lost):
        run.end("FINISHED")
    assert "MLflow cannot be reached (no answer). Work continues" in caplog.text


def test_nothing_to_keep_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="does not exist: the run"):
        Run("id", Sink()).log_artifact(tmp_path / "missing")


@pytest.mark.slow
def test_a_database_whose_making_failed_is_made_again(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from mobius_pipeline.tracking.backend import experiment_id
        from mobius_pipeline.tracking.embedded import EmbeddedStore

        most = int(sys.argv[2])  # bytes of a file
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        print(experiment_id(EmbeddedStore("anything", Path(sys.argv[1]))))
    """)

    def make(most: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", script, str(tmp_path), str(most)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    failed = make(100_000)
    assert failed.returncode == 1
    assert "sqlite3.OperationalError" in failed.stderr
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".lock"]
    made = make(-1)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "1\n"
