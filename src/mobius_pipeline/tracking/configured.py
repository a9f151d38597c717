"""Which project records its runs, and where: one a process, or none."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mobius_pipeline.tracking.project_root import home
from mobius_pipeline.tracking.settings import Store, TrackingConfig, store_of

log = logging.getLogger(__name__)


@dataclass
class _State:
    store: Store | None = None
    source: Path | None = None  # the project whose code and data run
    warned: bool = False


_state = _State()


def configure(config: TrackingConfig, root: Path) -> None:
    """Record runs from now on in the store of the project at `root`. Imports and writes nothing yet.

    The copy of a project that DVC runs a queued experiment in records in the project's own store.
    """
    _state.store, _state.source = store_of(config, home(root)), root


def reset() -> None:
    """Forget the configured project: runs record nothing from now on."""
    _state.store, _state.source, _state.warned = None, None, False


def project() -> Path:
    """The project whose code and data run; the working directory where none is configured."""
    return _state.source or Path.cwd()


def within_project(path: Path) -> str:
    """`path` as seen from the project: another machine has the project elsewhere."""
    root = project()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def experiment_name() -> str:
    """The experiment that runs are recorded in; "" where none is configured."""
    return _state.store.name if _state.store else ""


def configured_store() -> Store | None:
    """The store that runs are recorded in; None where no project is configured."""
    return _state.store


def source() -> Path | None:
    """The project whose code and data run; None where none is configured."""
    return _state.source


def store_or_warning() -> Store | None:
    """The same; the first time that there is none, a warning says that nothing is recorded."""
    if _state.store is None and not _state.warned:
        log.warning(
            "No project is configured (mobius_pipeline.tracking.api.configure): runs are not recorded."
        )
        _state.warned = True
    return _state.store
