"""Where what outlasts a run belongs: DVC runs queued experiments in a copy of the project that it removes."""

import os
from pathlib import Path

QUEUED = Path(".dvc/tmp/exps")


def home(project: Path) -> Path:
    """The project itself, or, of a queued experiment's copy, the one that it was copied from (`DVC_ROOT`)."""
    root = Path(os.environ.get("DVC_ROOT", project)).resolve()
    return root if project.resolve().is_relative_to(root / QUEUED) else project
