"""One run of an MLflow store."""

import errno
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobius_pipeline.tracking.outbox import UnavailableError
from mobius_pipeline.tracking.page import NOTE
from mobius_pipeline.tracking.provenance import source_tags
from mobius_pipeline.tracking.run import Entry, Input, Sink

DIGEST_LENGTH = 12  # characters, shown behind a data set's name; MLflow takes 36
_CHECKPOINT_NOTE = (
    "Checkpoint of step {step}, which a stopped training goes on from. It lies in `{folder}`, not in MLflow, "
    "as long as `train.keep_last` or `train.keep_every` keeps it."
)
# What MLflow says of a store that is down, locked or full, rather than of the record.
_FOR_NOW = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED")
# What the system says of a disk that takes no artifact now; `shutil.Error` holds it as text.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE)


@contextmanager
def telling_if_unavailable() -> Iterator[None]:
    """Turn errors that may pass into `UnavailableError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except OSError as error:
        if not (isinstance(error, shutil.Error) or error.errno in _NOT_WRITTEN):
            raise
        raise UnavailableError(str(error)) from error
    except MlflowException as error:
        if error.error_code not in _FOR_NOW:
            raise
        raise UnavailableError(str(error).splitlines()[0]) from error


class MlflowSink(Sink):
    """One run of an MLflow store."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self._client, self._run_id, self._experiment_id = client, run_id, experiment_id

    @telling_if_unavailable()
    def batch(self, metrics: list[Entry], params: dict[str, str], tags: dict[str, str]) -> None:
        """Write a batch in one transaction."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            self._run_id,
            metrics=[Metric(*entry) for entry in metrics],
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )

    @telling_if_unavailable()
    def artifact(self, path: Path, folder: str | None) -> None:
        """Copy a file, or the content of a folder, below `folder` of the run's artifacts."""
        log_one = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log_one(self._run_id, str(path), folder)

    @telling_if_unavailable()
    def image(self, image: Any, key: str, step: int) -> None:
        """Store an image for MLflow's image grid, which steps through time."""
        self._client.log_image(self._run_id, image, key=key, step=step)

    @telling_if_unavailable()
    def checkpoint(self, name: str, step: int, folder: Path, metrics: list[Entry]) -> None:
        """Record `folder` as a model that MLflow lists and ranks, but does not copy."""
        import mlflow
        from mlflow.entities import LoggedModelOutput, Metric

        model_id = mlflow.create_external_model(
            name=name,
            source_run_id=self._run_id,
            experiment_id=self._experiment_id,
            params={"folder": str(folder), "step": str(step)},
            # Without them MLflow names the script by its path on this machine, and git's remote with any
            # password in its address.
            tags={
                **source_tags(),
                "mlflow.source.git.repoURL": "",
                NOTE: _CHECKPOINT_NOTE.format(step=step, folder=folder),
            },
        ).model_id
        self._client.log_outputs(self._run_id, [LoggedModelOutput(model_id, step)])
        self._client.log_batch(self._run_id, metrics=[Metric(*entry, model_id=model_id) for entry in metrics])

    @telling_if_unavailable()
    def dataset(self, name: str, read: Input) -> None:
        """Record a data set by the start of its digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, profile = json.dumps({"uri": read.source}), json.dumps(dict(read.profile))
        record = Dataset(name, read.digest[:DIGEST_LENGTH], "local", source, profile=profile)
        context = [InputTag("mlflow.data.context", read.context)]
        self._client.log_inputs(self._run_id, [DatasetInput(record, context)])

    @telling_if_unavailable()
    def describe(self, text: str) -> None:
        """Set the run's description."""
        self._client.set_tag(self._run_id, NOTE, text)

    @telling_if_unavailable()
    def stored_params(self) -> dict[str, str]:
        """Return the parameters that the run already holds."""
        return dict(self._client.get_run(self._run_id).data.params)

    @telling_if_unavailable()
    def stored_steps(self, keys: Collection[str] | None = None) -> dict[str, set[int]]:
        """Return the steps that the run already holds of the metrics `keys`; of all of them by default."""
        wanted = self._client.get_run(self._run_id).data.metrics if keys is None else keys
        return {
            key: {metric.step for metric in self._client.get_metric_history(self._run_id, key)}
            for key in wanted
        }

    @telling_if_unavailable()
    def stored_files(self, folder: str) -> set[str]:
        """Return the names of the files in a folder of the run's artifacts."""
        found = self._client.list_artifacts(self._run_id, folder)
        return {Path(one.path).name for one in found if not one.is_dir}

    @telling_if_unavailable()
    def end(self, status: str) -> None:
        """Set the run's final status and its end time."""
        self._client.set_terminated(self._run_id, status)
