"""Log models in MLflow's format with their runs, and open MLflow's model registry."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
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


@dataclass(frozen=True)
class ModelFiles:
    """Parts of a model that MLflow stores as code: https://mlflow.org/docs/latest/ml/model/models-from-code/.

    Attributes:
        code: Script that passes a `PythonModel` to `mlflow.models.set_model`.
        package: Folder of the Python package that the script imports.
        requirements: Requirements for pip.
        artifacts: Files and folders that the model reads, by name.
        settings: The model's default configuration.
        example: Prompts and parameters; MLflow runs the model with them as a check.
    """

    code: Path
    package: Path
    requirements: Sequence[str]
    artifacts: Mapping[str, Path]
    settings: Mapping[str, Any]
    example: tuple[list[str], dict[str, Any]]


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
            f"{store.label} cannot be reached, or refuses access ({error}). Run the same command again "
            "later: nothing is registered twice."
        ) from error


def make_registered_model(registry: Any, name: str) -> None:
    """Create a registered model unless it exists; another process may create it at the same time."""
    from mlflow.exceptions import MlflowException

    try:
        registry.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def log_model(files: ModelFiles, name: str, run_id: str, mode: str, tags: Mapping[str, str]) -> Any:
    """Log a model of a training with the run of the training; return the logged model.

    If the store has lost the run, the model is logged without one, with a warning.
    """
    store = _store()
    client, experiment = open_client(store), experiment_id(store)
    run = active_run(client, run_id) or copy_of(client, experiment, run_id)
    if run is None:
        log.warning("The run %s of %s is no longer in %s: its model has no run.", run_id, mode, store.label)
    source = None if run is None else run.info.run_id
    with TemporaryDirectory() as folder:
        written = Path(folder) / "model"
        _write(written, files)
        model = client.create_logged_model(experiment, name, source, dict(tags), model_type=mode)
        client.log_model_artifacts(model.model_id, str(written))
    return client.finalize_logged_model(model.model_id, "READY")


def _write(target: Path, files: ModelFiles) -> None:
    import mlflow

    mlflow.pyfunc.save_model(
        str(target),
        python_model=str(files.code),
        artifacts={name: str(path) for name, path in files.artifacts.items()},
        code_paths=[str(files.package)],
        pip_requirements=list(files.requirements),
        input_example=files.example,
        model_config=dict(files.settings),
    )


def _store() -> Store:
    store = configured_store()
    if store is None:
        raise MobiusError(
            "No project is configured: there is no registry. Call mobius_pipeline.tracking.api.configure."
        )
    return store
