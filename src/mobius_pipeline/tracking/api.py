"""Record runs in MLflow. Only the packages `tracking` and `registry` import it.

MLflow is imported when the first run starts, so importing this module is cheap. Until `configure` is called
(Kedro's hook calls it), runs record nothing and log one warning: the library works without a project.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.signals import Terminated, sigterm_raises
from mobius_pipeline.tracking.backend import experiment_id, open_client, page_of
from mobius_pipeline.tracking.configured import (
    configure,
    configured_store,
    experiment_name,
    project,
    reset,
    source,
    store_or_warning,
    within_project,
)
from mobius_pipeline.tracking.copied import copy_of
from mobius_pipeline.tracking.embedded import HOST, PORT, EmbeddedStore
from mobius_pipeline.tracking.moved import relocate
from mobius_pipeline.tracking.outbox import patiently
from mobius_pipeline.tracking.owner import close_orphans, owner_tags
from mobius_pipeline.tracking.page import NOTE, VIEW
from mobius_pipeline.tracking.provenance import dvc_tags, project_tags, source_tags
from mobius_pipeline.tracking.run import LAST_WAIT, Input, Run, Sink
from mobius_pipeline.tracking.search import active_run, artifacts_of, chosen_runs
from mobius_pipeline.tracking.settings import (
    Store,
    TrackingConfig,
    log_in,
    parse,
    read_project,
    refuse_former_name,
    store_of,
)
from mobius_pipeline.tracking.sink import MlflowSink, raise_unavailable
from mobius_pipeline.tracking.system import next_sample, system_metrics

__all__ = [
    "HOST",
    "PORT",
    "VIEW",
    "EmbeddedStore",
    "Input",
    "MlflowSink",
    "Store",
    "TrackingConfig",
    "attached_run",
    "check",
    "check_run",
    "comparison_run",
    "configure",
    "dvc_tags",
    "experiment_id",
    "experiment_name",
    "log_in",
    "log_later",
    "parse",
    "project",
    "read_project",
    "recorded_trainings",
    "refuse_former_name",
    "relocate",
    "reset",
    "run_page",
    "store_of",
    "training_run",
    "within_project",
]

log = logging.getLogger(__name__)

T = TypeVar("T")


def check() -> None:
    """Check that runs can be recorded, before anything is computed.

    Raises:
        MobiusError: If the project was moved, or its database is from another version of MLflow or cannot be
            reached.
    """
    store = configured_store()
    if store is not None and store.exists:
        _patiently(lambda: experiment_id(store))


def check_run(run_id: str, mode: str, then: str = "a new run starts") -> None:
    """Check that the run of a training can be written to, before anything is computed.

    Logs a warning if the store no longer has the run; `then` says what happens instead.

    Raises:
        MobiusError: If the run belongs to another mode.
    """
    store = store_or_warning()
    _patiently(lambda: _existing(store, run_id, mode, then))


def run_page(run_id: str) -> str | None:
    """Return the address of a run in MLflow's UI, or None if no project is configured.

    The address of an embedded store works while `mobius ui` serves on its default port.
    """
    store = configured_store()
    if store is None:
        return None
    experiment = experiment_id(store)
    copied = copy_of(open_client(store), experiment, run_id)
    return page_of(store.pages, experiment, copied.info.run_id if copied else run_id)


def recorded_trainings(names: Sequence[str] | None, filter: str | None) -> list[Path]:
    """Return the artifact folders of finished trainings, chosen by name or by a search (see `chosen_runs`).

    Raises:
        MobiusError: If no project is configured, a name matches no training, or MLflow cannot read the
            filter.
    """
    store = configured_store()
    if store is None:
        raise MobiusError(
            "No project is configured: there are no runs. Call mobius_pipeline.tracking.api.configure."
        )
    client = open_client(store)
    return [artifacts_of(client, run) for run in chosen_runs(client, experiment_id(store), names, filter)]


@contextmanager
def training_run(
    mode: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    inputs: Mapping[str, Input],
    resume_run_id: str | None = None,
) -> Iterator[Run]:
    """Record a training as a run named `mode`; `inputs` are the data sets that it reads, by name.

    The run ends FINISHED, FAILED, or KILLED (by Ctrl-C, or by SIGTERM, which becomes exit status 143). If
    MLflow does not accept the last records within a minute, an error is raised and the run stays RUNNING. In
    a thread other than the main one SIGTERM cannot be caught, and the run stays RUNNING.

    With `resume_run_id` that run continues and keeps the steps that it already has. If the store has lost it,
    a new run starts, with a warning.
    """
    store = store_or_warning()
    with sigterm_raises():
        resumed = _patiently(lambda: _resumed(store, resume_run_id, mode))
        run = resumed or _new_run(store, mode, f"Training of the {mode} model.")
        with _ended_with_status(run, run.end):
            run.set_tags({"mode": mode, **tags})
            run.log_params({"mode": mode, **params})
            for name, read in inputs.items():
                run.log_dataset(name, read)
            every = store.system_metrics_every if store else None
            with system_metrics(run, every, next_sample(run)):
                yield run


@contextmanager
def attached_run(run_id: str, mode: str) -> Iterator[Run]:
    """Record more in the run of a training that has ended; its status does not change.

    If the store has lost it (`mlruns/` was removed), a new run named `mode` replaces it, with a warning.

    Raises:
        MobiusError: If the run belongs to another mode.
    """
    store = store_or_warning()
    sink = _patiently(lambda: _existing(store, run_id, mode))
    if sink is not None:
        run = Run(sink.run_id, sink)
        with _ended_with_status(run, lambda status: run.close()):
            yield run
        return
    with sigterm_raises():
        run = _new_run(store, mode, f"Evaluation of the {mode} model. The run of its training was lost.")
        with _ended_with_status(run, run.end):
            run.set_tags({"mode": mode})
            yield run


def log_later(run_id: str, mode: str, metrics: Mapping[str, float]) -> None:
    """Record metrics in the run of a training that has ended; if the store has lost the run, only warn.

    Raises:
        MobiusError: If the run belongs to another mode.
    """
    store = store_or_warning()
    sink = _patiently(lambda: _existing(store, run_id, mode, "its later metrics are not recorded"))
    if sink is not None:
        run = Run(sink.run_id, sink)
        with _ended_with_status(run, lambda status: run.close()):
            run.log_metrics(metrics)


@contextmanager
def comparison_run(
    name: str = "comparison",
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    description: str = "Comparison of the modes: ratios and the report.",
) -> Iterator[Run]:
    """Record a comparison of trainings as a separate run, which ends like that of `training_run`."""
    with sigterm_raises():
        run = _new_run(store_or_warning(), name, description)
        with _ended_with_status(run, run.end):
            run.set_tags(tags)
            run.log_params(params)
            yield run


def _new_run(store: Store | None, name: str, description: str) -> Run:
    project_folder = source()
    if store is None or project_folder is None:
        return Run("untracked", Sink())
    tags = {NOTE: description, **owner_tags(), **source_tags(), **project_tags(project_folder)}
    if queued := os.environ.get("DVC_EXP_NAME"):
        name = f"{name} ({queued})"

    def create() -> Run:
        experiment = experiment_id(store)
        client = open_client(store)
        close_orphans(client, experiment)
        run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        return Run(run_id, MlflowSink(client, run_id, experiment))

    return _patiently(create)


def _patiently(ask: Callable[[], T]) -> T:
    """Return the result of `ask`; wait while MLflow is unavailable. Only for calls before work starts."""
    return patiently("MLflow", raise_unavailable()(ask), LAST_WAIT)


def _resumed(store: Store | None, run_id: str | None, mode: str) -> Run | None:
    sink = _existing(store, run_id, mode) if run_id is not None else None
    if store is None or sink is None:
        return None
    client = open_client(store)
    client.update_run(sink.run_id, status="RUNNING")
    run = Run(sink.run_id, sink, sink.stored_steps())
    run.set_tags(owner_tags())
    run.flush()  # else close_orphans would see the process that started the run as its owner
    close_orphans(client, experiment_id(store))
    return run


def _existing(
    store: Store | None, run_id: str, mode: str, then: str = "a new run starts"
) -> MlflowSink | None:
    """Return the sink of a run; if the store no longer has it, return None and warn what happens `then`."""
    if store is None:
        return None
    experiment = experiment_id(store)
    client = open_client(store)
    found = active_run(client, run_id) or copy_of(client, experiment, run_id)
    if found is None:
        log.warning("The run %s of %s is no longer in %s: %s.", run_id, mode, store.label, then)
        return None
    if found.data.tags.get("mode") != mode:
        raise MobiusError(
            f"The run {run_id} is of mode {found.data.tags.get('mode')}, not {mode}. Train {mode} again."
        )
    return MlflowSink(client, found.info.run_id, experiment)


@contextmanager
def _ended_with_status(run: Run, end: Callable[[str], None]) -> Iterator[None]:
    """Call `end` with the run's final status. Records that cannot be delivered fail the block, too."""
    try:
        yield
        run.flush()
    except BaseException as error:
        try:
            end("KILLED" if isinstance(error, KeyboardInterrupt | Terminated) else "FAILED")
        except MobiusError as lost:
            log.error("%s", lost)  # the error that ended the block is raised
        raise
    end("FINISHED")
