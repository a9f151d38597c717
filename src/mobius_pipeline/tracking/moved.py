"""Update the artifact paths of a moved or copied project: MLflow stores them as absolute paths."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking.embedded import EmbeddedStore, refuse_other_schema

_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(store: EmbeddedStore) -> int:
    """Point all runs of the store to its own artifact folder, in one transaction.

    Returns:
        The number of runs that pointed to another folder.

    Raises:
        MobiusError: If the database is damaged, from another version of MLflow, or cannot be written.
    """
    refuse_other_schema(store)
    new = store.artifact_location
    try:
        with closing(sqlite3.connect(store.database)) as database, database:
            found = database.execute("SELECT artifact_location FROM experiments").fetchall()
            old = {place for (place,) in found if _is_a_store(place, store)}
            before = database.execute("SELECT artifact_uri FROM runs").fetchall()
            for root in old:
                _rewrite(database, root, new)
            after = database.execute("SELECT artifact_uri FROM runs").fetchall()
    except sqlite3.OperationalError as error:
        raise MobiusError(
            f"{store.database} cannot be written ({error}). Stop the processes that record in it, and run "
            "the same command again. Nothing was changed."
        ) from error
    return sum(one != other for one, other in zip(before, after, strict=True))


def _is_a_store(place: str, store: EmbeddedStore) -> bool:
    """Return whether `place`, a URI or in earlier versions a path, is another project's artifact folder."""
    address = urlsplit(place)
    is_local = address.scheme in ("", "file") and not address.netloc
    return (
        is_local
        and Path(unquote(address.path)).name == store.artifacts.name
        and place != store.artifact_location
    )


def _rewrite(database: sqlite3.Connection, root: str, new: str) -> None:
    below = f"{root}/"
    for table, column in _PLACES:
        moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
        database.execute(
            f"{moved} WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(root) + 1, root, len(below), below),
        )
