"""Run Kedro's commands in the process of the tests, which has already loaded Kedro."""

from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI

from mobius_pipeline.tracking import api as tracking


def kedro(project: Path, *words: str) -> str:
    """Run a command in `project` and return its output; raise its errors."""
    try:
        with chdir(project):
            done = CliRunner().invoke(KedroCLI(project), words)
    finally:
        tracking.reset()
    if done.exception:
        raise done.exception
    return done.stdout
