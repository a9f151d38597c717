"""Write the records of a run to an MLflow store."""

import errno
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobius_pipeline.tracking.outbox import LOG_IN, RefusedError, UnavailableError
from mobius_pipeline.tracking.page import NOTE
from mobius_pipeline.tracking.provenance import source_tags
from mobius_pipeline.tracking.run import Entry, Input, Sink

DIGEST_LENGTH = 12  # characters, shown after a data set's name; MLflow accepts 36
_CHECKPOINT_NOTE = (
    "Checkpoint of step {step}, from which a stopped training resumes. It is in `{folder}`, not in MLflow, "
    "as long as `train.keep_last` or `train.keep_every` keeps it."
)
# MLflow's error codes for a store that is down, locked or full, not for a bad record; the last three are
# a gateway's answers.
_FOR_NOW = (
    "TEMPORARILY_UNAVAILABLE",
    "INTERNAL_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
)
# Errors of SQLite, of PostgreSQL and SQL Server, and of MySQL for a row that another process inserted at the
# same time, as happens with two trainings on the same latents. A retry finds the row.
_ANOTHER_WAS_FIRST = ("UNIQUE constraint failed", "duplicate key", "Duplicate entry")
# A password may change during a training: records wait until access is granted again.
_REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
# System errors of a disk that cannot take an artifact now; `shutil.Error` has them as text only.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE)


@contextmanager
def raise_unavailable() -> Iterator[None]:
    """Convert temporary errors to `UnavailableError` and authorisation errors to `RefusedError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (OSError, MlflowException) as error:
        kind = _of_the_store(error)
        if kind is None:
            raise
        first = str(error).splitlines()[0]
        raise kind(f"{first} {LOG_IN}" if kind is RefusedError else first) from error


def _of_the_store(error: Any) -> type[UnavailableError] | None:
    """Return the class for an error of the store; None for an error of the record."""
    from mlflow.exceptions import HTTP_STATUS_TO_ERROR_CODE

    if hasattr(error, "error_code"):
        code = error.error_code
    elif hasattr(error, "response"):  # from requests, which transfers files; None: no answer
        status = 503 if error.response is None else error.response.status_code
        code = HTTP_STATUS_TO_ERROR_CODE.get(status, "INTERNAL_ERROR" if status > 500 else "")
    else:
        on_disk = isinstance(error, shutil.Error) or error.errno in _NOT_WRITTEN
        return UnavailableError if on_disk else None
    if code in _REFUSED:
        return RefusedError
    passes = code in _FOR_NOW or any(words in str(error) for words in _ANOTHER_WAS_FIRST)
    return UnavailableError if passes else None


class MlflowSink(Sink):
    """Sink of one run of an MLflow store."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self._client, self.run_id, self._experiment_id = client, run_id, experiment_id

    @raise_unavailable()
    def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
        """Write a batch in one transaction."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            self.run_id,
            metrics=[Metric(*entry) for entry in metrics],
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )

    @raise_unavailable()
    def artifact(self, path: Path, folder: str | None) -> None:
        """Copy a file, or the content of a folder, below `folder` of the run's artifacts."""
        log_one = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log_one(self.run_id, str(path), folder)

    @raise_unavailable()
    def image(self, image: Any, key: str, step: int) -> None:
        """Store an image for MLflow's image grid, which can step through the images of a key."""
        self._client.log_image(self.run_id, image, key=key, step=step)

    @raise_unavailable()
    def checkpoint(self, name: str, step: int, folder: Path, metrics: list[Entry]) -> None:
        """Record `folder` as a model, which MLflow lists and ranks but does not copy."""
        from mlflow.entities import LoggedModelOutput, Metric

        model_id = self._recorded_model(name) or self._new_model(name, step, folder)
        self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step)])
        self._client.log_batch(self.run_id, metrics=[Metric(*entry, model_id=model_id) for entry in metrics])

    def _recorded_model(self, name: str) -> str | None:
        """Return the model that an earlier attempt recorded; delete one that it did not finish."""
        whose = f"name = '{name}' AND source_run_id = '{self.run_id}'"
        found = self._client.search_logged_models([self._experiment_id], filter_string=whose)
        for model in found:
            if model.status.value == "READY":
                return str(model.model_id)
            self._client.delete_logged_model(model.model_id)
        return None

    def _new_model(self, name: str, step: int, folder: Path) -> str:
        import mlflow

        model = mlflow.create_external_model(
            name=name,
            source_run_id=self.run_id,
            experiment_id=self._experiment_id,
            params={"folder": str(folder), "step": str(step)},
            # Without these tags MLflow records the path of the script on this machine, and the address of
            # git's remote with any password in it.
            tags={
                **source_tags(),
                "mlflow.source.git.repoURL": "",
                NOTE: _CHECKPOINT_NOTE.format(step=step, folder=folder),
            },
        )
        return str(model.model_id)

    @raise_unavailable()
    def dataset(self, name: str, read: Input) -> None:
        """Record a data set with the first characters of its digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, profile = json.dumps({"uri": read.source}), json.dumps(dict(read.profile))
        record = Dataset(name, read.digest[:DIGEST_LENGTH], "local", source, profile=profile)
        context = [InputTag("mlflow.data.context", read.context)]
        self._client.log_inputs(self.run_id, [DatasetInput(record, context)])

    @raise_unavailable()
    def describe(self, text: str) -> None:
        """Set the run's description."""
        self._client.set_tag(self.run_id, NOTE, text)

    @raise_unavailable()
    def stored_params(self) -> dict[str, str]:
        """Return the parameters that the run already has."""
        return dict(self._client.get_run(self.run_id).data.params)

    @raise_unavailable()
    def stored_steps(self, keys: Collection[str] | None = None) -> dict[str, set[int]]:
        """Return the steps that the run already has of the metrics `keys`, by default of all."""
        wanted = self._client.get_run(self.run_id).data.metrics if keys is None else keys
        return {
            key: {metric.step for metric in self._client.get_metric_history(self.run_id, key)}
            for key in wanted
        }

    @raise_unavailable()
    def stored_files(self, folder: str) -> set[str]:
        """Return the names of the files in a folder of the run's artifacts."""
        found = self._client.list_artifacts(self.run_id, folder)
        return {Path(one.path).name for one in found if not one.is_dir}

    @raise_unavailable()
    def end(self, status: str) -> None:
        """Set the run's final status and its end time."""
        self._client.set_terminated(self.run_id, status)
