"""What is expensive to make is made once for all workers of pytest-xdist, as its documentation advises."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

Once = Callable[[str, Callable[[Path], object]], Path]


def once_in(root: Path) -> Once:
    """A function that returns the folder `root/shared-<name>`, filled by the first process that asks for it.

    Others wait for it. `make` gets the empty folder; where it fails, the next process tries again.
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
