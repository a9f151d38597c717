"""An unusable store is refused at once, and the remedy in the message works."""

import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from mobius_pipeline import cli
from mobius_pipeline.hooks import ProjectHooks
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.backend import open_client

CONFIG = tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns"))
NOTHING: dict[str, Any] = {"params": {}, "tags": {}, "inputs": {}}


def store_of(project: Path) -> tracking.EmbeddedStore:
    store = tracking.store_of(CONFIG, project)
    assert isinstance(store, tracking.EmbeddedStore)
    return store


def begins(node_tag: str) -> None:
    """Start a run of a pipeline like Kedro."""
    hooks = ProjectHooks()
    hooks._catalog_reads = set()
    pipeline = Pipeline([node(len, "a", "b", tags=node_tag)])
    hooks.before_pipeline_run({"runtime_params": {}}, pipeline, DataCatalog({"a": MemoryDataset("text")}))


@pytest.fixture
def recorded(tracked_project: Path) -> str:
    """The id of a finished training with an artifact and a checkpoint."""
    (tracked_project / "conf/base").mkdir(parents=True)
    (tracked_project / "conf/base/tracking.yml").write_text("experiment: mobius\nfolder: mlruns\n")
    note = tracked_project / "note.txt"
    note.write_text("kept")
    with tracking.training_run("serial", **NOTHING) as run:
        run.log_artifact(note, "record")
        run.log_checkpoint("serial-1", 1, Path("data/step-1"))
    return run.id


def moved_by(how: str, project: Path, target: Path) -> Path:
    if how == "moved":
        shutil.move(project, target)
    else:
        shutil.copytree(project, target)
    return target


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_moved_or_copied_project_gets_its_runs_back(
    how: str,
    recorded: str,
    tracked_project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = moved_by(how, tracked_project, tmp_path_factory.mktemp("else where") / "ü %20 #project")
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict())
    tracking.configure(CONFIG, there)  # like a new process, which does not know the old path
    begins("report")  # records nothing
    with pytest.raises(MobiusError, match="mobius relocate"):
        begins("tracked")
    monkeypatch.chdir(there)
    assert cli.main(["relocate"]) == 0
    assert "Updated the artifact paths of 1 runs" in capsys.readouterr().out
    begins("tracked")
    (folder,) = tracking.recorded_trainings([recorded], None)
    assert folder.is_relative_to(there)
    assert (folder / "record/note.txt").read_text() == "kept"
    with tracking.attached_run(recorded, "serial") as run:
        run.log_artifact(there / "note.txt", "again")
    assert (there / "mlruns/artifacts" / recorded / "artifacts/again/note.txt").is_file()
    (model,) = open_client(store_of(there)).search_logged_models(["1"])
    assert model.artifact_location.startswith(f"{store_of(there).artifacts.as_uri()}/")
    assert not (tracked_project / "mlruns/artifacts" / recorded / "artifacts/again").exists()
    assert cli.main(["relocate"]) == 0
    assert "0 runs" in capsys.readouterr().out


def test_files_that_lie_elsewhere_on_purpose_stay_there(recorded: str, tracked_project: Path) -> None:
    client = open_client(store_of(tracked_project))
    bucket = client.create_experiment("bucket", artifact_location="s3://mine/artifacts")
    assert tracking.relocate(store_of(tracked_project)) == 0
    assert client.get_experiment(bucket).artifact_location == "s3://mine/artifacts"


def an_earlier_database(path: Path) -> str:
    """Create an MLflow database with the previous schema; return that schema."""
    code = """if True:
        import sys
        from alembic import command
        from alembic.script import ScriptDirectory
        from mlflow.store.db import utils
        from mlflow.store.tracking.dbmodels.initial_models import Base
        from sqlalchemy import create_engine

        url = f"sqlite:///{sys.argv[1]}"
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        config = utils._get_alembic_config(url)
        scripts = ScriptDirectory.from_config(config)
        earlier = scripts.get_revision(scripts.get_current_head()).down_revision
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, earlier)
        print(earlier)
    """
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@pytest.mark.slow
def test_an_earlier_mlflows_database_is_refused_at_once_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobius_pipeline.tracking.api.LAST_WAIT", 0)  # no waiting
    project = tmp_path / "my project"
    (project / "mlruns").mkdir(parents=True)
    schema = an_earlier_database(project / "mlruns/mlflow.db")
    tracking.configure(CONFIG, project)
    try:
        with pytest.raises(MobiusError, match=f"schema {schema}.*then run: mlflow db upgrade") as refused:
            begins("tracked")
        command = shlex.split(str(refused.value).partition("then run: ")[2])
        program = [sys.executable, "-m", *command]
        subprocess.run(program, check=True, capture_output=True)
        begins("tracked")
    finally:
        tracking.reset()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: later(file), "by a later MLflow than"),
        (lambda file: file.write_bytes(b"garbage " * 999), "is not a valid SQLite database"),
    ],
)
def test_a_database_that_nothing_upgrades_is_refused_at_once(
    spoil: Any, said: str, recorded: str, tracked_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobius_pipeline.tracking.api.LAST_WAIT", 0)
    spoil(tracked_project / "mlruns/mlflow.db")
    with pytest.raises(MobiusError, match=said):
        begins("tracked")
    with pytest.raises(MobiusError, match=said), tracking.training_run("serial", **NOTHING):
        pass


def later(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def test_an_experiment_that_another_process_creates_at_the_same_moment_is_used(
    tracked_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    look_up, other = mlflow.MlflowClient.get_experiment_by_name, []

    def late(client: mlflow.MlflowClient, name: str) -> Any:
        found = look_up(client, name)
        if found is None:  # the other process creates it between the two steps of this one
            other.append(client.create_experiment(name, f"{(tracked_project / 'mlruns/artifacts').as_uri()}"))
        return found

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    with tracking.training_run("serial", **NOTHING) as run:
        pass
    assert open_client(store_of(tracked_project)).get_run(run.id).info.experiment_id == other[0]


def test_a_record_that_another_process_writes_first_is_sent_again(tracked_project: Path) -> None:
    """Two trainings that start together on the same latents: the database refuses the second row."""
    from mlflow.store.tracking.dbmodels.models import SqlDataset
    from sqlalchemy import event

    database = tracked_project / "mlruns/mlflow.db"
    refused: list[str] = []

    def be_first(_mapper: Any, _connection: Any, ours: Any) -> None:
        """Insert the data set's row after MLflow has searched for it and before it inserts its own."""
        if refused:
            return
        refused.append(ours.name)
        with closing(sqlite3.connect(database)) as other, other:
            row = {name: getattr(ours, name) for name in SqlDataset.__table__.c.keys()}  # noqa: SIM118 (no dictionary)
            row["dataset_uuid"] = "another's"
            marks = ", ".join("?" * len(row))
            other.execute(f"INSERT INTO datasets ({', '.join(row)}) VALUES ({marks})", list(row.values()))

    read = tracking.Input("0123456789abcdef", "data/05_model_input/latents")
    event.listen(SqlDataset, "before_insert", be_first)
    try:
        with tracking.training_run("serial", params={}, tags={}, inputs={"latents": read}) as run:
            pass
    finally:
        event.remove(SqlDataset, "before_insert", be_first)
    assert refused == ["latents"]
    found = open_client(store_of(tracked_project)).get_run(run.id)
    assert found.info.status == "FINISHED"
    assert [one.dataset.name for one in found.inputs.dataset_inputs] == ["latents"]
