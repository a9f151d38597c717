"""Tags with the provenance of a run: the command, the code, the data, the user."""

import getpass
import os
import sys
from pathlib import Path

from mobius_pipeline import __version__
from mobius_pipeline.runtime.files import sha256
from mobius_pipeline.runtime.redaction import command_line
from mobius_pipeline.tracking.git import commit, has_changes


def source_tags() -> dict[str, str]:
    """Return the command, without secrets and its program's folder, the user, and this package's version.

    Without a git repository, the version is all that identifies the code.
    """
    tags = {
        "mlflow.source.name": command_line(sys.argv),
        "mlflow.source.type": "LOCAL",
        "mobius_pipeline.version": __version__,
    }
    try:
        return {**tags, "mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container's user id that has no name
        return tags


def project_tags(folder: Path) -> dict[str, str]:
    """Return the provenance of a run of the project in `folder`, as far as it is available.

    The commit and whether tracked files differ from it, DVC's experiment, and the hashes of `dvc.lock` and
    `requirements.lock`.
    """
    tags = {**dvc_tags(folder), **_digest(folder / "requirements.lock")}
    revision = commit(folder)
    if revision is not None:
        tags |= {"mlflow.source.git.commit": revision, "git.dirty": str(has_changes(folder)).lower()}
    return tags


def dvc_tags(folder: Path) -> dict[str, str]:
    """Return the DVC experiment that runs in `folder`, if any, and the hash of `dvc.lock`."""
    words = {"experiment": "DVC_EXP_NAME", "revision": "DVC_EXP_BASELINE_REV"}
    tags = {f"dvc.{word}": os.environ[key] for word, key in words.items() if os.environ.get(key)}
    return {**tags, **_digest(folder / "dvc.lock")}


def _digest(file: Path) -> dict[str, str]:
    return {f"{file.name}.sha256": sha256(file)} if file.is_file() else {}
