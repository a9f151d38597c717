"""Runs on a real MLflow server with PostgreSQL, its own artifact storage, and basic authentication."""

import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml

import tiny
from mobius_pipeline import cli
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.pipelines.train.nodes import train
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.locks import only_writer
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking import models
from mobius_pipeline.tracking.backend import open_client
from mobius_pipeline.tracking.run import Input
from mobius_pipeline.tracking.server import ServerStore, _refuse_other_server
from mobius_pipeline.tracking.settings import store_of
from servers import USER, MlflowServer, mlflow_server

pytestmark = pytest.mark.slow

NOTHING: dict[str, Any] = {"params": {}, "tags": {}, "inputs": {}}
STEPS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server, shared by this file's tests."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide MLflow's variables and restore them afterwards; do not wait for minutes."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("MLFLOW_")}
    yield
    tracking.reset()
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def served(server: MlflowServer, tmp_path: Path, request: pytest.FixtureRequest) -> tracking.Store:
    """The store of a project that records on the server, with a separate experiment for the test."""
    os.environ.update(server.credentials)
    config = tracking.TrackingConfig(
        experiment=request.node.name, folder=Path("mlruns"), tracking_uri=server.uri
    )
    tracking.configure(config, tmp_path)
    return store_of(config, tmp_path)


def project_with(folder: Path, **settings: Any) -> Path:
    """Return the folder of a project with these tracking settings."""
    (folder / "conf/base").mkdir(parents=True, exist_ok=True)
    (folder / "conf/local").mkdir(exist_ok=True)
    section = {"experiment": "mobius", "folder": "mlruns", **settings}
    (folder / "conf/base/tracking.yml").write_text(yaml.safe_dump(section))
    return folder


def test_a_server_holds_everything_of_a_run_and_the_project_nothing(
    served: tracking.Store, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("kept")
    read = Input("ab" * 32, "data/latents")
    with tracking.training_run(
        "serial", params={"lr": 1e-3}, tags={"base": "tiny"}, inputs={"latents": read}
    ) as run:
        for step in range(3):
            run.log_metrics({"loss": 1 / (step + 1)}, step)
        run.log_artifact(tmp_path / "note.txt", "notes")
        run.log_image(np.zeros((8, 8, 3), np.uint8), "preview", 2)
        run.log_checkpoint("serial-2", 2, Path("data/.work/step-2"), {"heldout_loss": 0.25})
    client = open_client(served)
    stored = client.get_run(run.id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"mode": "serial", "lr": "0.001"}
    assert stored.data.tags["base"] == "tiny"
    assert [m.value for m in client.get_metric_history(run.id, "loss")] == [1, 0.5, pytest.approx(1 / 3)]
    (folder,) = tracking.recorded_trainings([run.id], None)
    assert (folder / "notes/note.txt").read_text() == "kept"
    assert list((folder / "images").glob("*preview*.png"))
    (model,) = client.search_logged_models([stored.info.experiment_id])
    assert [(metric.key, metric.value) for metric in model.metrics] == [("heldout_loss", 0.25)]
    assert not (tmp_path / "mlruns").exists()
    page = tracking.run_page(run.id)
    assert page == f"{served.uri}/#/experiments/{stored.info.experiment_id}/runs/{run.id}"


def test_a_training_outlives_its_server(
    served: tracking.Store,
    server: MlflowServer,
    tiny_store: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server is killed during the training and restarted after the last step: nothing is lost."""
    monkeypatch.setattr("mobius_pipeline.tracking.run.FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(
        "mobius_pipeline.tracking.run.LAST_WAIT", 300.0
    )  # a busy machine starts it in a minute
    monkeypatch.setattr("mobius_pipeline.tracking.outbox.LONGEST_PAUSE", 1.0)
    log_metrics, steps = tracking_log_metrics(), []

    def killing(run: Any, metrics: Any, step: int | None = None) -> None:
        log_metrics(run, metrics, step)
        if "loss" in metrics:
            steps.append(step)
            if len(steps) == STEPS // 2:
                run.flush()
                server.kill()
            if len(steps) == STEPS:
                threading.Thread(target=server.start).start()

    monkeypatch.setattr("mobius_pipeline.tracking.run.Run.log_metrics", killing)
    config = tiny.train_config(steps=STEPS, checkpoint_every=3, keep_last=9)
    model = tiny.variant("serial")
    made = train(LatentsStore(tiny_store), BaseModel(tiny_base), config, model, model, tmp_path / "work")
    assert "MLflow cannot be reached" in caplog.text
    client = open_client(served)
    run = client.get_run(made.metrics.run_id)
    assert run.info.status == "FINISHED"
    assert sorted(m.step for m in client.get_metric_history(run.info.run_id, "loss")) == steps
    models = client.search_logged_models([run.info.experiment_id])
    assert sorted(int(one.params["step"]) for one in models) == [3, 6, 9, 12]
    assert run.data.metrics["memory/peak_gib"] > 0


def tracking_log_metrics() -> Any:
    from mobius_pipeline.tracking.run import Run

    return Run.log_metrics


@pytest.mark.parametrize(
    "credentials", [{}, {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": "wr0ng-Secret"}]
)
@pytest.mark.parametrize("answered", [False, True])  # earlier, to a user with access
def test_who_may_not_log_in_hears_it_before_work_begins(
    server: MlflowServer, tmp_path: Path, credentials: dict[str, str], answered: bool
) -> None:
    if answered:
        os.environ.update(server.credentials)
        ServerStore("mobius", server.uri).prepare()
        for name in server.credentials:
            del os.environ[name]
    else:
        _refuse_other_server.cache_clear()
    os.environ.update(credentials)
    project = project_with(tmp_path, tracking_uri=server.uri)
    tracking.configure(tracking.read_project(project), project)
    began = time.monotonic()
    with pytest.raises(MobiusError, match=r"401.* Set MLFLOW_TRACKING_USERNAME") as refused:
        tracking.check()
    assert "Nothing was started" in str(refused.value)
    assert "wr0ng" not in str(refused.value)
    assert time.monotonic() - began < tracking.LAST_WAIT / 2  # no waiting


def test_a_password_of_the_projects_own_file_logs_in(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_with(tmp_path, tracking_uri=server.uri, credentials="team")
    monkeypatch.chdir(project)
    assert cli.main(["ui"]) == 1  # there are no credentials
    (project / "conf/local/credentials.yml").write_text(yaml.safe_dump({"team": server.credentials}))
    assert cli.main(["ui"]) == 0


def test_the_ui_names_the_servers_pages(
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.environ.update({"MLFLOW_TRACKING_URI": server.uri, **server.credentials})
    monkeypatch.chdir(project_with(tmp_path))
    assert cli.main(["ui"]) == 0
    assert f"Open    {server.uri}/#/experiments/" in capsys.readouterr().out
    assert cli.main(["relocate"]) == 1
    assert not (tmp_path / "mlruns").exists()


def test_runs_from_before_the_server_are_copied_once_and_found_by_their_old_names(
    server: MlflowServer,
    tracked_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = project_with(tracked_project)
    (project / "note.txt").write_text("kept")
    with tracking.training_run("serial", **{**NOTHING, "inputs": {"latents": Input("ab" * 32)}}) as run:
        for step in range(1200):  # more than a batch
            run.log_metrics({"loss": 1 / (step + 1)}, step)
        run.log_artifact(project / "note.txt", "notes")
        run.log_checkpoint("serial-2", 2, Path("data/.work/step-2"), {"heldout_loss": 0.25})
    ours = open_client(store_of(tracking.read_project(project), project)).get_run(run.id)
    tracking.reset()
    monkeypatch.chdir(project)
    os.environ.update(server.credentials)
    assert cli.main(["copy-runs"]) == 1
    assert "Name the server" in capsys.readouterr().err
    with only_writer(project / "mlruns/copy.lock", "A copy"):
        assert cli.main(["copy-runs", "--to", server.uri]) == 1
    assert f"A copy of these runs is being written by process {os.getpid()}" in capsys.readouterr().err
    assert cli.main(["copy-runs", "--to", server.uri]) == 0
    assert f"serial ({run.id[:8]}): copied as" in capsys.readouterr().out
    assert cli.main(["copy-runs", "--to", server.uri]) == 0
    assert "was copied before" in capsys.readouterr().out
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    tracking.configure(tracking.read_project(project), project)
    store = store_of(tracking.read_project(project), project)
    client = open_client(store)
    (copy,) = client.search_runs([tracking.experiment_id(store)])
    assert (copy.info.status, copy.info.start_time, copy.info.end_time) == (
        "FINISHED",
        ours.info.start_time,
        ours.info.end_time,
    )
    assert copy.data.metrics == ours.data.metrics
    assert len(client.get_metric_history(copy.info.run_id, "loss")) == 1200
    assert copy.inputs.dataset_inputs[0].dataset.digest == ("ab" * 32)[:12]
    (model,) = client.search_logged_models([copy.info.experiment_id])
    assert [(metric.key, metric.value) for metric in model.metrics] == [("heldout_loss", 0.25)]
    (folder,) = tracking.recorded_trainings([run.id[:12]], None)
    assert (folder / "notes/note.txt").read_text() == "kept"
    files = shouting(project)
    monkeypatch.syspath_prepend(project)
    logged = models.log_model(files, "shout", run.id, "serial", {})  # like a registration of the old training
    assert logged.source_run_id == copy.info.run_id
    with tracking.attached_run(run.id, "serial") as later:  # like an evaluation of the old training
        later.log_metrics({"quality/frechet": 0.5})
    assert client.get_run(copy.info.run_id).data.metrics["quality/frechet"] == 0.5


def shouting(folder: Path) -> models.ModelFiles:
    """A model whose code imports a package of `folder`."""
    code = folder / "model.py"
    code.write_text(
        "import loud, mlflow\n\n"
        "class Shout(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: list[str], params=None) -> list[str]:\n"
        "        return [loud.shouted(text) for text in model_input]\n\n"
        "mlflow.models.set_model(Shout())\n"
    )
    (folder / "loud").mkdir()
    (folder / "loud/__init__.py").write_text("shouted = str.upper\n")
    example = (["a ring"], {"pitch": 1})
    return models.ModelFiles(code, folder / "loud", ["mlflow"], artifacts={}, settings={}, example=example)


def test_a_model_is_logged_and_found_by_its_alias(
    served: tracking.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.syspath_prepend(tmp_path)
    files = shouting(tmp_path)
    with tracking.training_run("serial", **NOTHING) as run:
        pass
    with models.registry() as registry:
        logged = models.log_model(files, "shout", run.id, "serial", {"mode": "serial"})
        for _ in range(2):  # it may exist
            models.make_registered_model(registry, served.name)
        registry.create_model_version(served.name, logged.artifact_location, run.id, model_id=logged.model_id)
        registry.set_registered_model_alias(served.name, "champion", "1")
    loaded = mlflow.pyfunc.load_model(f"models:/{served.name}@champion")
    assert loaded.predict(["a ring"]) == ["A RING"]
    assert open_client(served).get_logged_model(logged.model_id).source_run_id == run.id


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server that is not an MLflow server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, *_: object) -> None:
        pass


def test_what_is_no_mlflow_server_is_refused(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Pages) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{other.server_port}"
        project = project_with(tmp_path)
        tracking.configure(tracking.read_project(project), project)
        with pytest.raises(MobiusError, match="No MLflow server answers at"):
            tracking.check()
        other.shutdown()


def test_a_server_that_is_down_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobius_pipeline.tracking.api.LAST_WAIT", 1.0)
    os.environ["MLFLOW_TRACKING_URI"] = "http://me:s3cret-word@127.0.0.1:9"
    project = project_with(tmp_path)
    tracking.configure(tracking.read_project(project), project)
    with pytest.raises(MobiusError, match=r"MLflow cannot be reached .*Nothing was started") as refused:
        tracking.check()
    assert "s3cret" not in str(refused.value)


def test_the_environment_precedes_the_settings_which_precede_the_embedded_store(tmp_path: Path) -> None:
    def store() -> Any:
        return store_of(tracking.read_project(tmp_path), tmp_path)

    project_with(tmp_path)
    assert store() == tracking.EmbeddedStore("mobius", tmp_path / "mlruns")
    project_with(tmp_path, tracking_uri="http://base:5000/", registry_uri="http://models:5000")
    assert (store().uri, store().registry_uri) == ("http://base:5000", "http://models:5000")
    (tmp_path / "conf/local/tracking.yml").write_text("tracking_uri: https://local/mlflow\n")
    assert store().uri == "https://local/mlflow"
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///other/runs.db"
    assert store().database == tmp_path / "other/runs.db"
    os.environ["MLFLOW_TRACKING_URI"] = "http://environment:5000"
    assert store().uri == "http://environment:5000"


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///tmp/mlruns", "postgresql://me:pw@host/db", "http://", "sqlite:///"]
)
def test_an_address_that_cannot_record_runs_is_refused(uri: str, tmp_path: Path) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    with pytest.raises(MobiusError, match=r"MLFLOW_TRACKING_URI is .*mlflow server") as refused:
        store_of(tracking.read_project(project_with(tmp_path)), tmp_path)
    assert "pw@" not in str(refused.value)


def test_opening_a_store_leaves_the_users_variable_alone(tracked_project: Path) -> None:
    tracking.check()
    assert "MLFLOW_TRACKING_URI" not in os.environ
    with tracking.training_run("serial", **NOTHING):
        assert "MLFLOW_TRACKING_URI" not in os.environ


def test_settings_under_the_former_name_are_refused(tmp_path: Path) -> None:
    project = project_with(tmp_path)
    theirs = project / "conf/base/mlflow.yml"
    theirs.write_text("server:\n  mlflow_tracking_uri: null\n")  # keys of kedro-mlflow
    tracking.refuse_former_name(project / "conf")
    (project / "conf/local/mlflow.yml").write_text("folder: /data/mlruns\n")
    with pytest.raises(MobiusError, match=r"Rename it to .*conf/local/tracking.yml"):
        tracking.refuse_former_name(project / "conf")


def test_a_changed_password_holds_records_back_and_loses_none(
    served: tracking.Store, server: MlflowServer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr("mobius_pipeline.tracking.outbox.LONGEST_PAUSE", 1.0)
    api = f"{server.uri}/api/2.0/mlflow/users"
    admin = (USER, server.credentials["MLFLOW_TRACKING_PASSWORD"])
    made = requests.post(
        f"{api}/create", json={"username": "ada", "password": "one two three four"}, auth=admin
    )
    assert made.status_code == 200, made.text
    os.environ.update(MLFLOW_TRACKING_USERNAME="ada", MLFLOW_TRACKING_PASSWORD="one two three four")
    with tracking.training_run("serial", **NOTHING) as run:
        run.log_metrics({"loss": 1.0}, 0)
        run.flush()
        changed = {"username": "ada", "password": "five six seven eight"}
        assert requests.patch(f"{api}/update-password", json=changed, auth=admin).status_code == 200
        run.log_metrics({"loss": 0.5}, 1)
        run._send()
        while "Work continues" not in caplog.text:
            time.sleep(0.05)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = "five six seven eight"
    assert [m.step for m in open_client(served).get_metric_history(run.id, "loss")] == [0, 1]
