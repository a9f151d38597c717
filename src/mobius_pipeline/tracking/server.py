"""A team's store: an MLflow server, reached over HTTP."""

import os
from dataclasses import dataclass
from functools import cache

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.redaction import redacted
from mobius_pipeline.tracking.outbox import LOG_IN, RefusedError, UnavailableError

LEAST_VERSION = 3  # first major version of MLflow with logged models, which record checkpoints
# MLflow would retry a request for minutes. Here the callers wait or continue, and retry.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


@dataclass(frozen=True)
class ServerStore:
    """The experiment `name` on the MLflow server at `uri`, which keeps the files of its runs."""

    name: str
    uri: str
    system_metrics_every: float | None = None
    registry_uri: str | None = None

    artifact_location = None  # the server chooses it
    exists = True

    @property
    def label(self) -> str:
        """The store's name in messages."""
        return redacted(self.uri)

    @property
    def pages(self) -> str:
        """The address of the UI, without credentials."""
        scheme, _, rest = self.uri.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def prepare(self) -> None:
        """Check that an MLflow server answers; one that has answered is not asked again.

        Raises:
            MobiusError: If something else answers, or its MLflow is too old.
            UnavailableError: If nothing answers now.
            RefusedError: If the server denies access.
        """
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        _refuse_other_server(self.uri)


@cache
def _refuse_other_server(uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    place = redacted(uri)
    try:
        answer = http_request(get_default_host_creds(uri), "/version", "GET", raise_on_status=False)
    except MlflowException as error:
        raise UnavailableError(redacted(str(error))) from error
    if answer.status_code in (401, 403):
        raise RefusedError(f"{place} answers {answer.status_code}. {LOG_IN}")
    if answer.status_code >= 500 or answer.status_code == 429:
        raise UnavailableError(f"{place} answers {answer.status_code}")
    first = answer.text.partition(".")[0]
    if answer.status_code != 200 or not first.isdigit():
        raise MobiusError(
            f"No MLflow server answers at {place} ({answer.status_code} for {place}/version). "
            "Use the address that shows MLflow's UI in a browser, without the part from # on."
        )
    if int(first) < LEAST_VERSION:
        raise MobiusError(
            f"The server at {place} runs MLflow {answer.text.strip()}, which has no logged models. "
            f"Checkpoints need them: upgrade it to MLflow {LEAST_VERSION} or later."
        )
