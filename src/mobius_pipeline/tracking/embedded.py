"""The embedded store: an experiment in SQLite, its files beside it."""

import logging
import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import whole_file
from mobius_pipeline.runtime.locks import in_turn

log = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 5000  # where `mobius ui` serves, if nobody else does


@dataclass(frozen=True)
class EmbeddedStore:
    """The experiment `name` in the SQLite file `file` of `folder` (absolute), its artifacts beside it."""

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
    def place(self) -> str:
        """How messages name the store."""
        return str(self.database)

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return sqlite_uri(self.database)

    @property
    def artifacts(self) -> Path:
        """The folder of every run's files."""
        return self.folder / "artifacts"

    @property
    def artifact_location(self) -> str:
        """Where a new experiment keeps its files."""
        return self.artifacts.as_uri()

    @property
    def exists(self) -> bool:
        """Whether something was recorded."""
        return self.database.exists()

    @property
    def pages(self) -> str:
        """The address of the UI, while `mobius ui` serves it on its usual port."""
        return f"http://{HOST}:{PORT}"

    def prepare(self) -> None:
        """Make the database if there is none (3 to 10 s).

        Raises:
            MobiusError: If it is another MLflow's.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.database.exists():
            _create(self)
        refuse_other_schema(self)


def sqlite_uri(database: Path) -> str:
    """The URL of an SQLite file, whatever characters its path has."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(database)).render_as_string()


def refuse_other_schema(store: EmbeddedStore) -> None:
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
            f"{store.database} is not a whole SQLite database ({error}). Put a backup in its place, or "
            "remove it: a new one records later runs; trainings and their checkpoints do not depend on it."
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
        "conf/base/tracking.yml."
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


def _create(store: EmbeddedStore) -> None:
    """Make the database beside its place: MLflow cannot go on with one that is half made."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with in_turn(store.database.with_suffix(".lock")):
        if store.database.exists():  # by another run
            return
        log.info("Creating MLflow's database %s (some seconds, once).", store.database)
        with whole_file(store.database) as partial:
            SqlAlchemyStore(sqlite_uri(partial), store.artifacts.as_uri()).engine.dispose()
