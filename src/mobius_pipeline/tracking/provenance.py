"""What a run came from: the command, the code, the data, the user."""

import getpass
import os
import sys
from pathlib import Path

from mobius_pipeline import __version__
from mobius_pipeline.runtime.files import sha256
from mobius_pipeline.runtime.redaction import command_line
from mobius_pipeline.tracking.git import commit, has_changes


def source_tags() -> dict[str, str]:
    """The command that runs, without secrets and its program's folder, and who gave it, in MLflow's terms.

    And this package's version, all that tells of the code where there is no git repository.
    """
    tags = {
        "mlflow.source.name": command_line(sys.argv),
        "mlflow.source.type": "LOCAL",
        "mobius_pipeline.version": __version__,
    }
    try:
        return {**tags, "mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container's number without a name
        return tags


def project_tags(folder: Path) -> dict[str, str]:
    """Name what a run of the project in `folder` came from, as far as it is there.

    The commit and whether tracked files differ; DVC's experiment, and the hash of its record of the data;
    the hash of the installed packages' lock file.
    """
    tags = {**dvc_tags(folder), **_digest(folder / "requirements.lock")}
    revision = commit(folder)
    if revision is not None:
        tags |= {"mlflow.source.git.commit": revision, "git.dirty": str(has_changes(folder)).lower()}
    return tags


def dvc_tags(folder: Path) -> dict[str, str]:
    """DVC's experiment that runs in `folder`, if one does, and the hash of its record of the data."""
    words = {"experiment": "DVC_EXP_NAME", "revision": "DVC_EXP_BASELINE_REV"}
    tags = {f"dvc.{word}": os.environ[key] for word, key in words.items() if os.environ.get(key)}
    return {**tags, **_digest(folder / "dvc.lock")}


def _digest(file: Path) -> dict[str, str]:
    return {f"{file.name}.sha256": sha256(file)} if file.is_file() else {}
