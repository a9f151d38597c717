"""Read the commit and the changes of a project through the `git` command, where there is one."""

import subprocess
from pathlib import Path

_WRITTEN = (":(exclude)data", ":(exclude)dvc.lock")  # paths that runs write


def commit(folder: Path) -> str | None:
    """Return the commit that is checked out in `folder`; None outside of a git repository."""
    return _git(folder, "rev-parse", "HEAD")


def has_changes(folder: Path) -> bool:
    """Return whether tracked files differ from the commit, not counting `data` and `dvc.lock`."""
    return bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN))


def describe(folder: Path) -> str:
    """Return the commit of `folder`, with `-dirty` appended if `has_changes`; "" outside of a repository."""
    revision = _git(folder, "describe", "--always", "--abbrev=40") or ""
    return f"{revision}-dirty" if revision and has_changes(folder) else revision


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None
