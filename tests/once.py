"""Create expensive test data once for all workers of pytest-xdist, as its documentation advises."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

Once = Callable[[str, Callable[[Path], object]], Path]


def once_in(root: Path) -> Once:
    """Return a function that returns the folder `root/shared-<name>`, filled by the first caller.

    Other processes wait. `make` receives the empty folder; if it fails, the next process tries again.
    """

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / f"shared-{name}", root / f"shared-{name}.done"
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made
