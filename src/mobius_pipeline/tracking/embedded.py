"""The embedded store: an experiment in an SQLite file, with its artifacts beside it."""

import logging
import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_file
from mobius_pipeline.runtime.locks import in_turn

log = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 5000  # where `mobius ui` serves, if the port is free


@dataclass(frozen=True)
class EmbeddedStore:
    """The experiment `name` in the SQLite file `file` of `folder` (absolute), artifacts beside it."""

    name: str
    folder: Path
    system_metrics_every: float | None = None
    registry_uri: str | None = None
    file: str = "mlflow.db"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / self.file

    @property
    def label(self) -> str:
        """The store's name in messages."""
        return str(self.database)

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return sqlite_uri(self.database)

    @property
    def artifacts(self) -> Path:
        """The folder that holds the artifacts of all runs."""
        return self.folder / "artifacts"

    @property
    def artifact_location(self) -> str:
        """The URI of the folder in which a new experiment keeps its artifacts."""
        return self.artifacts.as_uri()

    @property
    def exists(self) -> bool:
        """Whether something was recorded."""
        return self.database.exists()

    @property
    def pages(self) -> str:
        """The address of the UI while `mobius ui` serves it on its default port."""
        return f"http://{HOST}:{PORT}"

    def prepare(self) -> None:
        """Create the database if there is none (3 to 10 s).

        Raises:
            MobiusError: If it is damaged or from another version of MLflow.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.database.exists():
            _create(self)
        refuse_other_schema(self)


def sqlite_uri(database: Path) -> str:
    """Return the URL of an SQLite file, whose path may have any characters."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(database)).render_as_string()


def refuse_other_schema(store: EmbeddedStore) -> None:
    """Refuse a damaged database or one of another MLflow version, which MLflow reports as unavailable.

    Raises:
        MobiusError: With the command that upgrades it, or the version to install.
    """
    try:
        with closing(sqlite3.connect(f"{store.database.as_uri()}?mode=ro", uri=True)) as database:
            found = [version for (version,) in database.execute("SELECT version_num FROM alembic_version")]
    except sqlite3.OperationalError:  # locked, or without tables: MLflow waits, or creates them
        return
    except sqlite3.DatabaseError as error:
        raise MobiusError(
            f"{store.database} is not a valid SQLite database ({error}). Restore a backup, or remove it: a "
            "new one is created for later runs. Trainings and their checkpoints do not depend on it."
        ) from error
    newest, known = _schemas()
    if found == [newest] or not found:
        return
    import mlflow

    here = f"MLflow than {mlflow.__version__} (schema {found[0]}, expected {newest})"
    if found[0] in known:
        raise MobiusError(
            f"{store.database} was written by an earlier {here}. Back it up, then run: "
            f"mlflow db upgrade {shlex.quote(store.uri)}"
        )
    raise MobiusError(
        f"{store.database} was written by a later {here}. Install the version of MLflow that wrote it, or "
        "name another folder in conf/base/tracking.yml."
    )


@cache
def _schemas() -> tuple[str, frozenset[str]]:
    """Return the newest database schema that this MLflow knows, and all that it knows."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    newest = scripts.get_current_head()
    assert newest is not None
    return newest, frozenset(script.revision for script in scripts.walk_revisions())


def _create(store: EmbeddedStore) -> None:
    """Create the database under a temporary name, then rename it: MLflow cannot use a half-created one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with in_turn(store.database.with_suffix(".lock")):
        if store.database.exists():  # another run has created it
            return
        log.info("Creating MLflow's database %s (once, takes some seconds).", store.database)
        with atomic_file(store.database) as partial:
            SqlAlchemyStore(sqlite_uri(partial), store.artifacts.as_uri()).engine.dispose()
