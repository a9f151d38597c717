"""Settings of `tracking.yml` and the environment: the MLflow store that records runs, and its credentials."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from omegaconf import OmegaConf
from pydantic import Field

from mobius_pipeline.runtime.conf_files import merged
from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.redaction import redacted
from mobius_pipeline.tracking.embedded import EmbeddedStore
from mobius_pipeline.tracking.server import ServerStore

Store = EmbeddedStore | ServerStore

TRACKING_URI, REGISTRY_URI = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"  # MLflow's own variables
PROJECT_SETTINGS = "conf/base/tracking.yml"


class TrackingConfig(Config):
    """Settings in `conf/<env>/tracking.yml`: the experiment's name, and its store."""

    experiment: str
    folder: Path = Field(description="folder of the embedded store, relative to the project")
    tracking_uri: str | None = Field(default=None, description="address of an MLflow server; null: embedded")
    registry_uri: str | None = Field(default=None, description="null: the same as tracking_uri")
    credentials: str | None = Field(
        default=None, description="name of an entry in conf/local/credentials.yml"
    )
    system_metrics_every: float | None = Field(default=None, gt=0, description="interval, s; null: never")


def embedded_store(config: TrackingConfig, root: Path) -> EmbeddedStore:
    """Return the embedded store of the project at `root`, even if a server records its runs."""
    return EmbeddedStore(config.experiment, (root / config.folder).resolve(), config.system_metrics_every)


def store_of(config: TrackingConfig, root: Path) -> Store:
    """Return the store of the project at `root`.

    The environment variable `MLFLOW_TRACKING_URI` overrides `tracking_uri`; without both, the store is the
    embedded one. `MLFLOW_REGISTRY_URI` overrides `registry_uri`.

    Raises:
        MobiusError: If the URI is that of neither a server nor an SQLite file.
    """
    uri = os.environ.get(TRACKING_URI) or config.tracking_uri
    registry = os.environ.get(REGISTRY_URI) or config.registry_uri
    if uri is None:
        return replace(embedded_store(config, root), registry_uri=registry)
    address = urlsplit(uri)
    if address.scheme in ("http", "https") and address.hostname:
        return ServerStore(config.experiment, uri.rstrip("/"), config.system_metrics_every, registry)
    if address.scheme == "sqlite" and len(address.path) > 1:
        # As in SQLAlchemy, the path begins after the third slash; relative ones are relative to the project.
        file = (root / unquote(address.path[1:])).resolve()
        return EmbeddedStore(config.experiment, file.parent, config.system_metrics_every, registry, file.name)
    where = f"the environment's {TRACKING_URI}" if os.environ.get(TRACKING_URI) else "tracking_uri"
    raise MobiusError(
        f"{where} is {redacted(uri)!r}, which is neither an MLflow server (http://… or https://…) nor an "
        "SQLite file (sqlite:///mlruns/mlflow.db). For another database, start a server on it: "
        "mlflow server --backend-store-uri …"
    )


def log_in(config: TrackingConfig, credentials: Mapping[str, Any]) -> None:
    """Set environment variables for MLflow from the entry of `credentials` that the settings name.

    Variables that are already set do not change.

    Raises:
        MobiusError: If there is no such entry, or it is not a mapping of names to text or integers.
    """
    if config.credentials is None:
        return
    entry = credentials.get(config.credentials)
    if not isinstance(entry, Mapping) or not all(isinstance(value, str | int) for value in entry.values()):
        raise MobiusError(
            f"tracking.yml names the credentials {config.credentials!r}, which are missing or malformed. "
            f"Write them in conf/local/credentials.yml:\n{config.credentials}:\n"
            "  MLFLOW_TRACKING_USERNAME: …\n"
            "  MLFLOW_TRACKING_PASSWORD: …"
        )
    for name, value in entry.items():
        os.environ.setdefault(str(name), str(value))


def parse(section: Any) -> TrackingConfig:
    """Validate the content of `tracking.yml`.

    Raises:
        MobiusError: If a key is missing, unknown or invalid.
    """
    try:
        return TrackingConfig.model_validate(section)
    except ValueError as error:
        raise MobiusError(f"{PROJECT_SETTINGS} (or its override in your environment): {error}") from error


def read_project(project: Path) -> TrackingConfig:
    """Read the tracking settings of a project and log in, without Kedro.

    The configuration environment is `KEDRO_ENV`, or `local`, as in Kedro.

    Raises:
        MobiusError: If `project` is not a project of this package, or its settings are wrong.
    """
    if not (project / PROJECT_SETTINGS).is_file():
        raise MobiusError(
            f"There is no {project / PROJECT_SETTINGS}. Run this command in the project's folder. For the "
            "installed package, unpack its configuration first: `tar -xzf conf-mobius_pipeline.tar.gz`."
        )
    config = parse(merged(project, "tracking.yml"))
    log_in(config, merged(project, "credentials.yml"))
    return config


def refuse_former_name(conf: Path) -> None:
    """Refuse an `mlflow.yml` with this project's keys, the name of `tracking.yml` in version 0.1.

    Raises:
        MobiusError: With the file's new name.
    """
    for file in sorted(conf.glob("*/mlflow.yml")):
        written = OmegaConf.load(file)
        if {"experiment", "folder", "system_metrics_every"} & set(written or ()):
            raise MobiusError(f"{file} is no longer read. Rename it to {file.with_name('tracking.yml')}.")
