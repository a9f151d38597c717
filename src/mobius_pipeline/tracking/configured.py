"""The project whose runs this process records, and their store."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mobius_pipeline.tracking.project_root import project_root
from mobius_pipeline.tracking.settings import Store, TrackingConfig, store_of

log = logging.getLogger(__name__)


@dataclass
class _State:
    store: Store | None = None
    source: Path | None = None  # the project that runs; for a queued DVC experiment, its copy
    warned: bool = False


_state = _State()


def configure(config: TrackingConfig, root: Path) -> None:
    """Record runs from now on in the store of the project at `root`. Imports and writes nothing yet.

    If `root` is the copy in which DVC runs a queued experiment, the original project's store is used.
    """
    _state.store, _state.source = store_of(config, project_root(root)), root


def reset() -> None:
    """Forget the configured project: from now on, runs record nothing."""
    _state.store, _state.source, _state.warned = None, None, False


def project() -> Path:
    """Return the folder of the configured project; the working directory if none is configured."""
    return _state.source or Path.cwd()


def within_project(path: Path) -> str:
    """Return `path` relative to the project if it is inside: on another machine the project is elsewhere."""
    root = project()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def experiment_name() -> str:
    """Return the name of the experiment that runs are recorded in; "" if no project is configured."""
    return _state.store.name if _state.store else ""


def configured_store() -> Store | None:
    """Return the store that runs are recorded in; None if no project is configured."""
    return _state.store


def source() -> Path | None:
    """Return the folder of the configured project; None if none is configured."""
    return _state.source


def store_or_warning() -> Store | None:
    """Return the configured store; if there is none, warn once that nothing is recorded."""
    if _state.store is None and not _state.warned:
        log.warning(
            "No project is configured: runs are not recorded. Call mobius_pipeline.tracking.api.configure."
        )
        _state.warned = True
    return _state.store
