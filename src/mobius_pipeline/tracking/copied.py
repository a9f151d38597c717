"""Copy the runs of a project's embedded store to a team's MLflow server."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.locks import only_writer
from mobius_pipeline.tracking.backend import experiment_id, open_client
from mobius_pipeline.tracking.embedded import EmbeddedStore
from mobius_pipeline.tracking.outbox import SERVER_SECONDS, patiently
from mobius_pipeline.tracking.run import COPIED_FROM, FLUSH_ENTRIES, MAX_PARAMS
from mobius_pipeline.tracking.search import artifacts_of, pages_of_runs
from mobius_pipeline.tracking.server import ServerStore
from mobius_pipeline.tracking.settings import Store, embedded_store, read_project, store_of
from mobius_pipeline.tracking.sink import raise_unavailable

T = TypeVar("T")


# Tags that are not copied: `create_run` sets the name, and the process of a copy is another one.
_OWN_TAGS = ("mlflow.runName", "process.host", "process.id", "process.born")


def copy_project_runs(project: Path, uri: str | None) -> None:
    """Copy the runs of a project's embedded store to the server at `uri`, or to the configured one.

    Raises:
        MobiusError: If nothing was recorded, no server is named, it cannot be reached or refuses access, or
            another process is copying these runs.
    """
    config = read_project(project)
    source = embedded_store(config, project)
    if not source.exists:
        raise MobiusError(f"There is nothing to copy: {source.label} does not exist.")
    target = ServerStore(config.experiment, uri.rstrip("/")) if uri else store_of(config, project)
    if isinstance(target, EmbeddedStore):
        raise MobiusError(
            "Name the server: --to http://…, MLFLOW_TRACKING_URI, or tracking_uri in tracking.yml."
        )
    ask = raise_unavailable()(lambda: experiment_id(target))
    patiently(target.label, ask, SERVER_SECONDS)
    # A second process would mistake the unfinished copies of the first for those of a killed one.
    with only_writer(source.folder / "copy.lock", "A copy of these runs"):
        for line in copy_runs(source, target):
            print(line, flush=True)


def copy_runs(source: Store, target: Store) -> Iterator[str]:
    """Copy the ended runs of a project's experiment to the experiment of the same name in another store.

    Runs that were copied before are skipped; unfinished copies are replaced. A copy has all steps of the
    metrics, the parameters, tags, data sets, artifacts and records of checkpoints, and a new id.

    Args:
        source: The store to copy from.
        target: The store to copy to.

    Yields:
        A line about each run, once it is done.

    Raises:
        MobiusError: If a store is not an MLflow store, or is from another version of MLflow.
        UnavailableError: If a server cannot be reached.
    """
    ours, theirs = open_client(source), open_client(target)
    experiment, into = experiment_id(source), experiment_id(target)
    for run in sorted(pages_of_runs(ours, experiment), key=lambda run: run.info.start_time):
        name = f"{run.info.run_name} ({run.info.run_id[:8]})"
        if run.info.status not in ("FINISHED", "FAILED", "KILLED"):
            yield f"{name}: skipped, its status is {run.info.status}"
        elif (before := _whole_copy(theirs, into, run.info.run_id)) is not None:
            yield f"{name}: was copied before, as {before[:8]}"
        else:
            yield f"{name}: copied as {_copy(ours, theirs, run, into)[:8]}"


def copy_of(client: Any, experiment: str, run_id: str) -> Any | None:
    """Return the finished copy of a run, if the store has one."""
    found = client.search_runs([experiment], f"tags.`{COPIED_FROM}` = '{run_id}'")
    return next((run for run in found if run.info.status != "RUNNING"), None)


def _whole_copy(client: Any, experiment: str, run_id: str) -> str | None:
    """Return the id of the finished copy of a run; delete copies that a killed process left unfinished."""
    for run in client.search_runs([experiment], f"tags.`{COPIED_FROM}` = '{run_id}'"):
        if run.info.status != "RUNNING":
            return str(run.info.run_id)
        client.delete_run(run.info.run_id)
    return None


def _copy(ours: Any, theirs: Any, run: Any, experiment: str) -> str:
    """Copy a run. Its status is set last, so a copy that has ended is complete."""
    tags = {key: value for key, value in run.data.tags.items() if key not in _OWN_TAGS}
    new = theirs.create_run(
        experiment, run.info.start_time, {**tags, COPIED_FROM: run.info.run_id}, run.info.run_name
    ).info.run_id
    _copy_records(ours, theirs, run, new)
    files = artifacts_of(ours, run)
    if any(files.iterdir()):
        theirs.log_artifacts(new, str(files))
    _copy_models(ours, theirs, run, experiment, new)
    theirs.set_terminated(new, run.info.status, run.info.end_time)
    return str(new)


def _copy_records(ours: Any, theirs: Any, run: Any, new: str) -> None:
    from mlflow.entities import Metric, Param

    history = [one for key in run.data.metrics for one in ours.get_metric_history(run.info.run_id, key)]
    metrics = [Metric(one.key, one.value, one.timestamp, one.step) for one in history]
    for some in _in_parts(metrics, FLUSH_ENTRIES):
        theirs.log_batch(new, metrics=some)
    for some in _in_parts([Param(*item) for item in run.data.params.items()], MAX_PARAMS):
        theirs.log_batch(new, params=some)
    if run.inputs and run.inputs.dataset_inputs:
        theirs.log_inputs(new, run.inputs.dataset_inputs)


def _copy_models(ours: Any, theirs: Any, run: Any, experiment: str, new: str) -> None:
    """Copy the models that a run has logged, with their files and metrics."""
    import mlflow
    from mlflow.entities import LoggedModelOutput, Metric

    whose = f"source_run_id = '{run.info.run_id}'"
    for model in ours.search_logged_models([run.info.experiment_id], filter_string=whose):
        copied = theirs.create_logged_model(
            experiment, model.name, new, model.tags, model.params, model.model_type
        ).model_id
        files = Path(mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location))
        theirs.log_model_artifacts(copied, str(files))
        theirs.finalize_logged_model(copied, model.status)
        theirs.log_outputs(new, [LoggedModelOutput(copied, int(model.params.get("step", 0)))])
        metrics = [
            Metric(one.key, one.value, one.timestamp, one.step, model_id=copied)
            for one in model.metrics or ()
        ]
        theirs.log_batch(new, metrics=metrics)


def _in_parts(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
