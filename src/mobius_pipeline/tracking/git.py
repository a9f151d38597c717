"""What git says of the project, asked of the `git` command; nothing where there is none."""

import subprocess
from pathlib import Path

_WRITTEN = (":(exclude)data", ":(exclude)dvc.lock")


def commit(folder: Path) -> str | None:
    """The commit that `folder` is at; None outside of git."""
    return _git(folder, "rev-parse", "HEAD")


def has_changes(folder: Path) -> bool:
    """Whether tracked files differ from the commit, but for what runs write: `data` and `dvc.lock`."""
    return bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN))


def describe(folder: Path) -> str:
    """The commit that `folder` is at, with `-dirty` where `has_changes`; "" outside of git."""
    revision = _git(folder, "describe", "--always", "--abbrev=40") or ""
    return f"{revision}-dirty" if revision and has_changes(folder) else revision


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None
