"""Log models with their runs, and open MLflow's model registry."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking.backend import experiment_id, open_client
from mobius_pipeline.tracking.configured import configured_store
from mobius_pipeline.tracking.copied import copy_of
from mobius_pipeline.tracking.outbox import UnavailableError
from mobius_pipeline.tracking.search import active_run
from mobius_pipeline.tracking.settings import Store
from mobius_pipeline.tracking.sink import raise_unavailable

log = logging.getLogger(__name__)


@contextmanager
def registry() -> Iterator[Any]:
    """Yield MLflow's client of the model registry.

    Raises:
        MobiusError: If no project is configured, or MLflow is unavailable or refuses access in the block.
    """
    store = _store()
    try:
        with raise_unavailable():
            yield open_client(store)
    except UnavailableError as error:
        raise MobiusError(
            f"{store.place} cannot be reached, or refuses access ({error}). Run the same command again "
            "later: nothing is registered twice."
        ) from error


def log_model(folder: Path, name: str, run_id: str, mode: str, tags: Mapping[str, str]) -> Any:
    """Log a folder in MLflow's format as a model of its training's run; return the logged model.

    If the store has lost the run, the model is logged without one, with a warning.
    """
    store = _store()
    client, experiment = open_client(store), experiment_id(store)
    run = active_run(client, run_id) or copy_of(client, experiment, run_id)
    if run is None:
        log.warning("The run %s of %s is no longer in %s: its model has no run.", run_id, mode, store.place)
    source = None if run is None else run.info.run_id
    model = client.create_logged_model(experiment, name, source, dict(tags), model_type=mode)
    client.log_model_artifacts(model.model_id, str(folder))
    return client.finalize_logged_model(model.model_id, "READY")


def _store() -> Store:
    store = configured_store()
    if store is None:
        raise MobiusError(
            "No project is configured: there is no registry. Call mobius_pipeline.tracking.api.configure."
        )
    return store
