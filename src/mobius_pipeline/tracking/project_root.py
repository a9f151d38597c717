"""The project that keeps the runs: DVC runs queued experiments in a copy, which it removes."""

import os
from pathlib import Path

QUEUED = Path(".dvc/tmp/exps")


def project_root(project: Path) -> Path:
    """Return the project, or the original (`DVC_ROOT`) if it is the copy of a queued experiment."""
    root = Path(os.environ.get("DVC_ROOT", project)).resolve()
    return root if project.resolve().is_relative_to(root / QUEUED) else project
