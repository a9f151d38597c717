"""What git says of the project, asked of the `git` command; nothing where there is none."""

import subprocess
from pathlib import Path


def commit(folder: Path) -> str | None:
    """The commit that `folder` is at; None outside of git."""
    return _git(folder, "rev-parse", "HEAD")


def has_changes(folder: Path) -> bool:
    """Whether tracked files differ from the commit."""
    return bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def describe(folder: Path) -> str:
    """The commit that `folder` is at, with `-dirty` where tracked files differ; "" outside of git."""
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40") or ""


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None
