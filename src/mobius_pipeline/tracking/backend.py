"""Where runs are kept: an experiment in SQLite, its files beside it."""

import logging
import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import whole_file
from mobius_pipeline.runtime.locks import in_turn
from mobius_pipeline.tracking.page import experiment_tags

log = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 5000  # where `mobius ui` serves, if nobody else does


class TrackingConfig(Config):
    """`conf/base/mlflow.yml`: the experiment's name, and the folder of its records within the project."""

    experiment: str
    folder: Path
    system_metrics_every: float | None = Field(default=None, gt=0, description="s; null: never")


@dataclass(frozen=True)
class Store:
    """The experiment `name` in SQLite below `folder` (absolute), its artifacts beside it."""

    name: str
    folder: Path
    system_metrics_every: float | None = None

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "mlflow.db"

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return sqlite_uri(self.database)

    @property
    def artifacts(self) -> Path:
        """The folder of every run's files."""
        return self.folder / "artifacts"


def sqlite_uri(database: Path) -> str:
    """The URL of an SQLite file, whatever characters its path has."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(database)).render_as_string()


def store_of(config: TrackingConfig, root: Path) -> Store:
    """Return the store of the project at `root`."""
    return Store(config.experiment, (root / config.folder).resolve(), config.system_metrics_every)


def experiment_id(store: Store) -> str:
    """Return the id of the store's experiment, created if it is missing, with what its page shows.

    Raises:
        MobiusError: If the experiment was deleted or keeps its artifacts somewhere else, or the database is
            another version's.
    """
    client = open_client(store)
    found = client.get_experiment_by_name(store.name)
    if found is None:
        found = _created(client, store)
    if found.lifecycle_stage != "active":
        raise MobiusError(
            f"The MLflow experiment {store.name!r} in {store.database} was deleted. Restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another in conf/base/mlflow.yml."
        )
    # Versions before 0.3 wrote the path itself.
    if found.artifact_location not in (store.artifacts.as_uri(), str(store.artifacts)):
        raise MobiusError(
            f"The MLflow experiment {store.name!r} keeps its files in {found.artifact_location}, not in "
            f"{store.artifacts}: the project was moved or copied. `mobius relocate`, in the project's "
            "folder, has the runs name their files where they are now."
        )
    for key, value in experiment_tags().items():
        if key not in found.tags:  # an experiment of an earlier version; what a user changed stays
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def _created(client: Any, store: Store) -> Any:
    """Create the experiment, or return the one that another process has created meanwhile."""
    from mlflow.exceptions import MlflowException

    location = store.artifacts.as_uri()
    try:
        client.create_experiment(store.name, artifact_location=location, tags=experiment_tags())
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(store.name)


def page_of(experiment: str, run_id: str, port: int = PORT) -> str:
    """Return the address of a run in the UI."""
    return f"http://{HOST}:{port}/#/experiments/{experiment}/runs/{run_id}"


def open_client(store: Store) -> Any:
    """Open the store; the first time creates the database (3 to 10 s)."""
    import mlflow

    for name in ("mlflow.store.db.utils", "alembic"):  # forty lines about tables that nobody asked for
        logging.getLogger(name).setLevel(logging.WARNING)
    store.folder.mkdir(parents=True, exist_ok=True)
    if not store.database.exists():
        _create(store)
    refuse_other_schema(store)
    mlflow.set_tracking_uri(store.uri)  # create_external_model reads it, and so do the ranks of torchrun
    return mlflow.MlflowClient(store.uri)


def refuse_other_schema(store: Store) -> None:
    """Refuse a database that this MLflow cannot work with, which MLflow reports as if it were down.

    Raises:
        MobiusError: With the command that upgrades it, or what to install.
    """
    try:
        with closing(sqlite3.connect(f"{store.database.as_uri()}?mode=ro", uri=True)) as database:
            found = [version for (version,) in database.execute("SELECT version_num FROM alembic_version")]
    except sqlite3.OperationalError:  # locked, or without tables: MLflow's to wait for, or to make
        return
    except sqlite3.DatabaseError as error:
        raise MobiusError(
            f"{store.database} is no whole SQLite database ({error}). Put a backup in its place, or remove "
            "it: a new one records what comes then; trainings and their checkpoints do not depend on it."
        ) from error
    newest, known = _schemas()
    if found == [newest] or not found:
        return
    import mlflow

    here = f"MLflow than {mlflow.__version__} (schema {found[0]}, expected {newest})"
    if found[0] in known:
        raise MobiusError(
            f"{store.database} is of an earlier {here}. Copy the file, then run: "
            f"mlflow db upgrade {shlex.quote(store.uri)}"
        )
    raise MobiusError(
        f"{store.database} is of a later {here}. Install the MLflow that wrote it, or name another folder in "
        "conf/base/mlflow.yml."
    )


@cache
def _schemas() -> tuple[str, frozenset[str]]:
    """The newest schema of a database that this MLflow knows, and all of them."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    newest = scripts.get_current_head()
    assert newest is not None
    return newest, frozenset(script.revision for script in scripts.walk_revisions())


def _create(store: Store) -> None:
    """Make the database beside its place: MLflow cannot go on with one that is half made."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with in_turn(store.database.with_suffix(".lock")):
        if store.database.exists():  # by another run
            return
        log.info("Creating MLflow's database %s (some seconds, once).", store.database)
        with whole_file(store.database) as partial:
            SqlAlchemyStore(sqlite_uri(partial), store.artifacts.as_uri()).engine.dispose()
