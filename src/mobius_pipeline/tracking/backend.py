"""An MLflow client of a store, and its experiment."""

import logging
import os
from typing import Any

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking.page import experiment_tags
from mobius_pipeline.tracking.settings import TRACKING_URI, Store


def open_client(store: Store) -> Any:
    """Open the store; the first time makes an embedded one (3 to 10 s).

    Raises:
        MobiusError: If the store is not MLflow's, or another version's.
        UnavailableError: If its server cannot be reached.
    """
    import mlflow

    for name in ("mlflow.store.db.utils", "alembic"):  # forty lines about tables that nobody asked for
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # Kedro's log is not a terminal
    store.prepare()
    # create_external_model reads what is set here. MLflow writes it into the environment, too, where it would
    # pass for the user's wish.
    wished = os.environ.get(TRACKING_URI)
    mlflow.set_tracking_uri(store.uri)
    if wished is None:
        os.environ.pop(TRACKING_URI, None)
    else:
        os.environ[TRACKING_URI] = wished
    return mlflow.MlflowClient(store.uri, store.registry_uri)


def experiment_id(store: Store) -> str:
    """Return the id of the store's experiment, created if it is missing, with what its page shows.

    Raises:
        MobiusError: If the experiment was deleted, or is an embedded store's that keeps its artifacts
            somewhere else or is another version's.
    """
    client = open_client(store)
    found = client.get_experiment_by_name(store.name)
    if found is None:
        return _create(client, store)
    if found.lifecycle_stage != "active":
        raise MobiusError(
            f"The MLflow experiment {store.name!r} in {store.place} was deleted. Restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another in tracking.yml."
        )
    _refuse_moved(store, found.artifact_location)
    for key, value in experiment_tags().items():
        if key not in found.tags:  # an experiment of an earlier version; what a user changed stays
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
    """Refuse an embedded store whose files lie elsewhere; a server's may lie anywhere."""
    if store.artifact_location is None:
        return
    # Versions before 0.3 wrote the path itself.
    if location not in (store.artifact_location, str(store.artifacts)):
        raise MobiusError(
            f"The MLflow experiment {store.name!r} keeps its files in {location}, not in "
            f"{store.artifacts}: the project was moved or copied. `mobius relocate`, in the project's "
            "folder, has the runs name their files where they are now."
        )


def page_of(pages: str, experiment: str, run_id: str) -> str:
    """Return the address of a run in the UI whose first page is `pages`."""
    return f"{pages}/#/experiments/{experiment}/runs/{run_id}"
