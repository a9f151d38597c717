"""Find recorded trainings by their names or by an MLflow search."""

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking.run import COPIED_FROM, MODES

log = logging.getLogger(__name__)


def chosen_runs(client: Any, experiment: str, names: Sequence[str] | None, filter: str | None) -> list[Any]:
    """Return the finished trainings of an experiment that are named, or that an MLflow search finds.

    Args:
        client: An MLflow client.
        experiment: The experiment's id.
        names: Run ids, first characters of run ids, or names of DVC experiments, each for all its trainings.
        filter: A search in MLflow's syntax, used if `names` is None.

    Returns:
        The runs in the order of `names`; within a DVC experiment or a search by mode, then by time.

    Raises:
        MobiusError: If a name matches no finished training or several run ids, or MLflow cannot read the
            filter.
    """
    if names is None:
        return sorted(_search(client, experiment, filter or ""), key=_by_mode_and_time)
    trainings = sorted(_search(client, experiment, ""), key=_by_mode_and_time)
    return [run for name in names for run in _named(name, trainings)]


def _search(client: Any, experiment: str, filter: str) -> list[Any]:
    from mlflow.exceptions import MlflowException

    try:
        found = list(pages_of_runs(client, experiment, filter))
    except MlflowException as error:
        raise MobiusError(f"compare.filter: MLflow cannot search for {filter!r}: {error.message}") from error
    trainings = [run for run in found if run.data.tags.get("mode") in MODES]
    finished = [run for run in trainings if run.info.status == "FINISHED"]
    if len(finished) < len(trainings):
        log.warning("%d trainings that did not finish are left out.", len(trainings) - len(finished))
    return finished


def pages_of_runs(client: Any, experiment: str, filter: str = "") -> Iterator[Any]:
    """Yield all runs of an experiment that a search finds, fetched in pages."""
    token = None
    while True:
        page = client.search_runs([experiment], filter, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _by_mode_and_time(run: Any) -> tuple[int, int]:
    return MODES.index(run.data.tags["mode"]), run.info.start_time


def _named(name: str, trainings: Sequence[Any]) -> list[Any]:
    of_experiment = [run for run in trainings if run.data.tags.get("dvc.experiment") == name]
    begins = [run for run in trainings if any(one.startswith(name) for one in _ids(run))]
    if of_experiment:
        return of_experiment
    if len(begins) == 1:
        return begins
    many = f" ({len(begins)} run ids begin with it: give more characters)" if begins else ""
    raise MobiusError(
        f"compare.runs: {name!r} is neither one finished training nor a DVC experiment{many}. `make ui` "
        "shows the runs; a run's id is in its page's address."
    )


def _ids(run: Any) -> list[str]:
    """Return a run's id and, for a copy, that of the original run."""
    return [run.info.run_id, run.data.tags.get(COPIED_FROM, run.info.run_id)]


def artifacts_of(client: Any, run: Any) -> Path:
    """Return the folder of a run's artifacts; a server's are downloaded, and removed at the end."""
    if run.info.artifact_uri.startswith(("file:", "/")):
        return Path(client.download_artifacts(run.info.run_id, ""))
    folder = Path(_downloads().name) / run.info.run_id
    folder.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run.info.run_id, "", str(folder)))


@cache
def _downloads() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="mobius-artifacts-")


def active_run(client: Any, run_id: str) -> Any | None:
    """Return a run, or None if the store has lost it or it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return found if found.info.lifecycle_stage == "active" else None
