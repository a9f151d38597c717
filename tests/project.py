"""A tiny but complete project like that of a user: real files, git, DVC, and a real database for MLflow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from copies import copied
from warm import FOLDER, Started

ROOT = Path(__file__).parents[1]
VERSIONED = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots/bars.json",
    ".dvc/plots/page.html",
    ".dvcignore",
    ".gitignore",
    "deploy/airflow_dag.py.j2",
    "dvc.yaml",
    "pyproject.toml",
)

# Differences from conf/base: sizes and steps, so that the chain takes a minute.
TINY = {
    "globals": {"clip": {"frames": 4, "height": 16, "width": 16, "fps": 8}},
    "sample_data": {"clips": 48, "workers": 1},
    "ingest": {"heldout_share": 0.5},
    "base": {
        "autoencoder": {"channels": [8, 8, 8], "latent_channels": 4, "fit": {"steps": 10, "batch_size": 4}},
        "text_to_image": {"channels": [16, 32], "heads": [2, 4], "fit": {"steps": 10, "batch_size": 4}},
    },
    "plan": {"levers": []},
    "train": {
        "steps": 8,
        "batch_size": 2,
        "evaluate_every": 4,
        "evaluate_clips": 2,
        "evaluate_timesteps": 2,
        "checkpoint_every": 4,
        "previews": {"every": 4, "steps": 2},
    },
    "sample": {"count": 3, "steps": 2},
    "evaluate": {"reference_clips": 16},
    "compare": {"paired_steps": 2},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `changes`, recursively."""
    both = {key for key, value in changes.items() if isinstance(value, dict) and isinstance(base[key], dict)}
    nested = {key: merged(base[key], changes[key]) for key in both}
    return {**base, **changes, **nested}


def finished(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the environment (`kedro`, `dvc`, `mobius`, `python`) or `git` in `folder`.

    Raises:
        AssertionError: If it fails, with the end of what it printed.
    """
    own = warm_environment()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done


def run(folder: Path, *words: str) -> str:
    """Run a command as `finished` does, and return its output."""
    return finished(folder, *words).stdout


def environment() -> dict[str, str]:
    """Return the environment of commands: the interpreter of the tests and its scripts come first in PATH."""
    own = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for who in ("AUTHOR", "COMMITTER"):  # git on a fresh machine has no user name
        own |= {f"GIT_{who}_NAME": "Tester", f"GIT_{who}_EMAIL": "tester@example.org"}
    own.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled modules make each stage start seconds sooner
    return own


def warm_environment() -> dict[str, str]:
    """Return `environment` with the clients of tests/warm.py first in PATH."""
    own = environment()
    return {**own, "PATH": f"{own[FOLDER]}{os.pathsep}{own['PATH']}"}


def started(folder: Path, *words: str) -> Started:
    """Start a command of the environment that a test stops with signals."""
    return Started(words, folder, warm_environment(), folder / "log")


def change(path: Path, changes: dict[str, Any]) -> None:
    """Change values of a YAML file."""
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes)))


def make_project(folder: Path, mlflow_template: Path) -> None:
    """Copy this project's code and configuration into `folder`, with tiny settings."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in VERSIONED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    for name, changes in TINY.items():
        path = folder / "conf/base" / (f"{name}.yml" if name == "globals" else f"parameters_{name}.yml")
        change(path, changes if name == "globals" else {name: changes})


def copy_project(finished: Path, copy: Path, mlflow_template: Path) -> Path:
    """Copy a finished project without its runs, and add a user's T2I model beside its data."""
    copied(finished, copy, ignore=shutil.ignore_patterns("mlruns"))
    (copy / "mlruns").mkdir()  # an experiment stores the absolute path of its artifacts
    shutil.copy(mlflow_template, copy / "mlruns/mlflow.db")
    copied(copy / "data/06_models/base", copy / "my_model")
    shutil.copy(ROOT / "tests/dry_runner.py", copy / "src")
    return copy


def commit(folder: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "-qm", message)
