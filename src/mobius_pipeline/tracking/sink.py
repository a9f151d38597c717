"""One run of an MLflow store."""

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

DIGEST_LENGTH = 12  # characters, shown behind a data set's name; MLflow takes 36
_CHECKPOINT_NOTE = (
    "Checkpoint of step {step}, which a stopped training goes on from. It lies in `{folder}`, not in MLflow, "
    "as long as `train.keep_last` or `train.keep_every` keeps it."
)
# What MLflow says of a store that is down, locked or full, rather than of the record; the last three stand
# for a gateway's answers.
_FOR_NOW = (
    "TEMPORARILY_UNAVAILABLE",
    "INTERNAL_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
)
# What SQLite, PostgreSQL and SQL Server, and MySQL say of a row that another process wrote at the same time,
# as two trainings do that read the same latents: sent again, the record finds it.
_ANOTHER_WAS_FIRST = ("UNIQUE constraint failed", "duplicate key", "Duplicate entry")
# A password may be changed while a training runs: records wait for the right one.
_REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
# What the system says of a disk that takes no artifact now; `shutil.Error` holds it as text.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE)


@contextmanager
def telling_if_unavailable() -> Iterator[None]:
    """Turn errors that may pass into `UnavailableError`, and those of rights into `RefusedError`."""
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
    """What an error says of the store; None where it speaks of the record."""
    from mlflow.exceptions import HTTP_STATUS_TO_ERROR_CODE

    if hasattr(error, "error_code"):
        code = error.error_code
    elif hasattr(error, "response"):  # of requests: the transfer of a file; None where no answer came
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
    """One run of an MLflow store."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self._client, self.run_id, self._experiment_id = client, run_id, experiment_id

    @telling_if_unavailable()
    def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
        """Write a batch in one transaction."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            self.run_id,
            metrics=[Metric(*entry) for entry in metrics],
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )

    @telling_if_unavailable()
    def artifact(self, path: Path, folder: str | None) -> None:
        """Copy a file, or the content of a folder, below `folder` of the run's artifacts."""
        log_one = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log_one(self.run_id, str(path), folder)

    @telling_if_unavailable()
    def image(self, image: Any, key: str, step: int) -> None:
        """Store an image for MLflow's image grid, which steps through time."""
        self._client.log_image(self.run_id, image, key=key, step=step)

    @telling_if_unavailable()
    def checkpoint(self, name: str, step: int, folder: Path, metrics: list[Entry]) -> None:
        """Record `folder` as a model that MLflow lists and ranks, but does not copy."""
        from mlflow.entities import LoggedModelOutput, Metric

        model_id = self._recorded_model(name) or self._new_model(name, step, folder)
        self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step)])
        self._client.log_batch(self.run_id, metrics=[Metric(*entry, model_id=model_id) for entry in metrics])

    def _recorded_model(self, name: str) -> str | None:
        """The model that an earlier try has made; one that it could not finish is removed."""
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
            # Without them MLflow names the script by its path on this machine, and git's remote with any
            # password in its address.
            tags={
                **source_tags(),
                "mlflow.source.git.repoURL": "",
                NOTE: _CHECKPOINT_NOTE.format(step=step, folder=folder),
            },
        )
        return str(model.model_id)

    @telling_if_unavailable()
    def dataset(self, name: str, read: Input) -> None:
        """Record a data set by the start of its digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, profile = json.dumps({"uri": read.source}), json.dumps(dict(read.profile))
        record = Dataset(name, read.digest[:DIGEST_LENGTH], "local", source, profile=profile)
        context = [InputTag("mlflow.data.context", read.context)]
        self._client.log_inputs(self.run_id, [DatasetInput(record, context)])

    @telling_if_unavailable()
    def describe(self, text: str) -> None:
        """Set the run's description."""
        self._client.set_tag(self.run_id, NOTE, text)

    @telling_if_unavailable()
    def stored_params(self) -> dict[str, str]:
        """Return the parameters that the run already holds."""
        return dict(self._client.get_run(self.run_id).data.params)

    @telling_if_unavailable()
    def stored_steps(self, keys: Collection[str] | None = None) -> dict[str, set[int]]:
        """Return the steps that the run already holds of the metrics `keys`; of all of them by default."""
        wanted = self._client.get_run(self.run_id).data.metrics if keys is None else keys
        return {
            key: {metric.step for metric in self._client.get_metric_history(self.run_id, key)}
            for key in wanted
        }

    @telling_if_unavailable()
    def stored_files(self, folder: str) -> set[str]:
        """Return the names of the files in a folder of the run's artifacts."""
        found = self._client.list_artifacts(self.run_id, folder)
        return {Path(one.path).name for one in found if not one.is_dir}

    @telling_if_unavailable()
    def end(self, status: str) -> None:
        """Set the run's final status and its end time."""
        self._client.set_terminated(self.run_id, status)
