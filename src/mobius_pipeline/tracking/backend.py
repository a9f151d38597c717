"""Open an MLflow client of a store, and find or create the store's experiment."""

import logging
import os
from typing import Any

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking.page import experiment_tags
from mobius_pipeline.tracking.settings import TRACKING_URI, Store


def open_client(store: Store) -> Any:
    """Return an MLflow client of the store; the first call creates an embedded store (3 to 10 s).

    Raises:
        MobiusError: If the store is not an MLflow store, or is from another version of MLflow.
        UnavailableError: If its server cannot be reached.
    """
    import mlflow

    for name in ("mlflow.store.db.utils", "alembic"):  # they log forty lines about the creation of tables
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # bars would fill the log
    store.prepare()
    # create_external_model reads this setting. MLflow also writes it to the environment, where it would look
    # like the user's own setting.
    wished = os.environ.get(TRACKING_URI)
    mlflow.set_tracking_uri(store.uri)
    if wished is None:
        os.environ.pop(TRACKING_URI, None)
    else:
        os.environ[TRACKING_URI] = wished
    return mlflow.MlflowClient(store.uri, store.registry_uri)


def experiment_id(store: Store) -> str:
    """Return the id of the store's experiment; create it, with the content of its page, if it is missing.

    Raises:
        MobiusError: If the experiment was deleted, or an embedded store keeps its artifacts in another folder
            or is from another version of MLflow.
    """
    client = open_client(store)
    found = client.get_experiment_by_name(store.name)
    if found is None:
        return _create(client, store)
    if found.lifecycle_stage != "active":
        raise MobiusError(
            f"The MLflow experiment {store.name!r} in {store.label} was deleted. Restore it "
            f"with `mlflow experiments restore -x {found.experiment_id}`, or name another in tracking.yml."
        )
    _refuse_moved(store, found.artifact_location)
    for key, value in experiment_tags().items():
        if key not in found.tags:  # created by an earlier version; a user's changes are kept
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def _create(client: Any, store: Store) -> str:
    from mlflow.exceptions import MlflowException

    try:
        created = client.create_experiment(store.name, store.artifact_location, experiment_tags())
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        created = client.get_experiment_by_name(store.name).experiment_id  # another process was first
    return str(created)


def _refuse_moved(store: Store, location: str) -> None:
    """Refuse an embedded store whose artifacts are in another folder; a server may keep them anywhere."""
    if store.artifact_location is None:
        return
    # Versions of this package before 0.3 stored a path instead of a URI.
    if location not in (store.artifact_location, str(store.artifacts)):
        raise MobiusError(
            f"The MLflow experiment {store.name!r} keeps its files in {location}, not in "
            f"{store.artifacts}: the project was moved or copied. Run `mobius relocate` in the "
            "project's folder to update the paths."
        )


def page_of(pages: str, experiment: str, run_id: str) -> str:
    """Return the address of a run in the UI at `pages`."""
    return f"{pages}/#/experiments/{experiment}/runs/{run_id}"
