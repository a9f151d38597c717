"""Runs, recorded in MLflow: the only code that knows it.

MLflow is imported when the first run starts, so importing this module is cheap. Until `configure` is called
(Kedro's hook calls it) runs record nothing and say so once: the library works without a project around it.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobius_pipeline.config import Config
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.revision import commit, has_changes
from mobius_pipeline.runs import Entry, Run, Sink
from mobius_pipeline.signals import Terminated, sigterm_raises

log = logging.getLogger(__name__)

MAX_DIGEST_LENGTH = 36  # characters, of a data set in MLflow


class TrackingConfig(Config):
    """`conf/base/mlflow.yml`: the experiment's name, and the folder of its records within the project."""

    experiment: str
    folder: Path


class MlflowSink(Sink):
    """One run of an MLflow store."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self._client, self._run_id, self._experiment_id = client, run_id, experiment_id

    def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
        """Write a batch in one transaction."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            self._run_id,
            metrics=[Metric(*entry) for entry in metrics],
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )

    def artifact(self, path: Path, folder: str | None) -> None:
        """Copy a file, or the content of a folder, below `folder` of the run's artifacts."""
        log_one = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log_one(self._run_id, str(path), folder)

    def image(self, image: Any, key: str, step: int) -> None:
        """Store an image for MLflow's image grid, which steps through time."""
        self._client.log_image(self._run_id, image, key=key, step=step)

    def checkpoint(self, name: str, step: int, folder: Path, metrics: list[Entry]) -> None:
        """Record `folder` as a model that MLflow lists and ranks, but does not copy."""
        import mlflow
        from mlflow.entities import LoggedModelOutput, Metric

        model_id = mlflow.create_external_model(
            name=name,
            source_run_id=self._run_id,
            experiment_id=self._experiment_id,
            params={"folder": str(folder), "step": str(step)},
        ).model_id
        self._client.log_outputs(self._run_id, [LoggedModelOutput(model_id, step)])
        self._client.log_batch(self._run_id, metrics=[Metric(*entry, model_id=model_id) for entry in metrics])

    def dataset(self, name: str, digest: str, source: str) -> None:
        """Record a data set by the start of its digest, as much of it as MLflow takes."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        record = Dataset(name, digest[:MAX_DIGEST_LENGTH], "local", json.dumps({"uri": source}))
        context = [InputTag("mlflow.data.context", "training")]
        self._client.log_inputs(self._run_id, [DatasetInput(record, context)])

    def stored_params(self) -> dict[str, str]:
        """Return the parameters that the run already holds."""
        return dict(self._client.get_run(self._run_id).data.params)

    def stored_steps(self, key: str) -> set[int]:
        """Return the steps of a metric that the run already holds."""
        return {metric.step for metric in self._client.get_metric_history(self._run_id, key)}

    def end(self, status: str) -> None:
        """Set the run's final status and its end time."""
        self._client.set_terminated(self._run_id, status)


@dataclass(frozen=True)
class Store:
    """The experiment `name` in SQLite below `folder` (absolute), its artifacts beside it."""

    name: str
    folder: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "mlflow.db"

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return f"sqlite:///{self.database}"

    @property
    def artifacts(self) -> Path:
        """The folder of every run's files."""
        return self.folder / "artifacts"


@dataclass
class _State:
    store: Store | None = None
    said: bool = False


_state = _State()


def store_of(config: TrackingConfig, root: Path) -> Store:
    """Return the store of the project at `root`."""
    return Store(config.experiment, (root / config.folder).resolve())


def configure(config: TrackingConfig, root: Path) -> None:
    """Record runs from now on in the store of the project at `root`. Imports and writes nothing yet."""
    _state.store = store_of(config, root)


def reset() -> None:
    """Forget the configured project: runs record nothing from now on."""
    _state.store, _state.said = None, False


def experiment_id(store: Store) -> str:
    """Return the id of the store's experiment, created if it is missing.

    Raises:
        MobiusError: If the experiment was deleted, or keeps its artifacts somewhere else.
    """
    client = _client(store)
    found = client.get_experiment_by_name(store.name)
    if found is None:
        return str(client.create_experiment(store.name, artifact_location=str(store.artifacts)))
    if found.lifecycle_stage != "active":
        raise MobiusError(
            f"The MLflow experiment {store.name!r} in {store.database} was deleted. Restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another in conf/base/mlflow.yml."
        )
    if found.artifact_location != str(store.artifacts):
        raise MobiusError(
            f"The MLflow experiment {store.name!r} keeps its files in {found.artifact_location}, not in "
            f"{store.artifacts}: the project was moved. Move it back, remove {store.folder}, or name another "
            "experiment in conf/base/mlflow.yml."
        )
    return str(found.experiment_id)


def _client(store: Store) -> Any:
    """Open the store; the first time creates the database (3 to 10 s)."""
    if not store.database.exists():
        log.info("Creating MLflow's database %s (some seconds, once).", store.database)
    store.folder.mkdir(parents=True, exist_ok=True)
    import mlflow

    for name in ("mlflow.store.db.utils", "alembic"):  # forty lines about tables that nobody asked for
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(store.uri)  # create_external_model reads it, and so do the ranks of torchrun
    return mlflow.MlflowClient(store.uri)


@contextmanager
def training_run(
    mode: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    inputs: Mapping[str, str],
    resume_run_id: str | None = None,
) -> Iterator[Run]:
    """Record a training as the run `mode`; `inputs` maps names of data sets to their digests.

    The run ends FINISHED, KILLED (Ctrl-C, or SIGTERM, which becomes exit status 143) or FAILED. In a thread
    other than the main one SIGTERM cannot be caught, and leaves the run RUNNING. With `resume_run_id` that
    run goes on and keeps the steps that it already holds; if the store has lost it, a new one starts, said
    aloud.
    """
    store = _store()
    with sigterm_raises():
        run = _resumed(store, resume_run_id, mode) or _new_run(store, mode, f"Training of the {mode} model.")
        with _ending_truthfully(run):
            run.set_tags({"mode": mode, **tags})
            run.log_params({"mode": mode, **params})
            for name, digest in inputs.items():
                run.log_dataset(name, digest)
            yield run


@contextmanager
def attached_run(run_id: str, mode: str) -> Iterator[Run]:
    """Write into the run of a training that has ended; its status stays as it is.

    If the store has lost it (`mlruns/` was removed), a new run named `mode` takes its place, said aloud.

    Raises:
        MobiusError: If the run belongs to another mode.
    """
    store = _store()
    sink = _existing(store, run_id, mode)
    if sink is not None:
        run = Run(run_id, sink)
        try:
            yield run
        finally:
            run.flush()
        return
    with sigterm_raises():
        run = _new_run(store, mode, f"Evaluation of the {mode} model; the run of its training is gone.")
        with _ending_truthfully(run):
            run.set_tags({"mode": mode})
            yield run


@contextmanager
def comparison_run(
    name: str = "comparison",
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    description: str = "Comparison of the modes: ratios and the report.",
) -> Iterator[Run]:
    """Record a comparison of trainings as a run of its own, ended as `training_run` ends."""
    with sigterm_raises():
        run = _new_run(_store(), name, description)
        with _ending_truthfully(run):
            run.set_tags(tags)
            run.log_params(params)
            yield run


def _store() -> Store | None:
    if _state.store is None and not _state.said:
        log.warning("No project is configured (mobius_pipeline.tracking.configure): runs are not recorded.")
        _state.said = True
    return _state.store


def _new_run(store: Store | None, name: str, description: str) -> Run:
    if store is None:
        return Run("untracked", Sink())
    experiment = experiment_id(store)
    client = _client(store)
    tags = {"mlflow.note.content": description, **_git_tags(store.folder.parent)}
    run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    return Run(run_id, MlflowSink(client, run_id, experiment))


def _resumed(store: Store | None, run_id: str | None, mode: str) -> Run | None:
    sink = _existing(store, run_id, mode) if run_id is not None else None
    if store is None or sink is None or run_id is None:
        return None
    _client(store).update_run(run_id, status="RUNNING")
    return Run(run_id, sink, resumed=True)


def _existing(store: Store | None, run_id: str, mode: str) -> MlflowSink | None:
    """Return the sink of a run that the store still holds, else say that it is gone."""
    if store is None:
        return None
    from mlflow.exceptions import MlflowException

    experiment = experiment_id(store)
    client = _client(store)
    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        found = None
    if found is None or found.info.lifecycle_stage != "active":
        log.warning("The run %s of %s is not in %s any more: a new run starts.", run_id, mode, store.database)
        return None
    if found.data.tags.get("mode") != mode:
        raise MobiusError(
            f"The run {run_id} is of mode {found.data.tags.get('mode')}, not {mode}: train {mode} again."
        )
    return MlflowSink(client, run_id, experiment)


def _git_tags(folder: Path) -> dict[str, str]:
    """Name the commit that `folder` stands on, and whether tracked files differ; nothing outside of git."""
    revision = commit(folder)
    if revision is None:
        return {}
    return {"mlflow.source.git.commit": revision, "git.dirty": str(has_changes(folder)).lower()}


def experiment_name() -> str:
    """The experiment that runs are recorded in; "" where none is configured."""
    return _state.store.name if _state.store else ""


@contextmanager
def _ending_truthfully(run: Run) -> Iterator[None]:
    status = "FAILED"
    try:
        yield
        run.flush()
        status = "FINISHED"
    except (KeyboardInterrupt, Terminated):
        status = "KILLED"
        raise
    finally:
        run.end(status)
