"""Kedro's commands in the tests' own process, which has loaded it already."""

from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI

from mobius_pipeline.tracking import api as tracking


def kedro(project: Path, *words: str) -> str:
    """Run a command in `project`; returns what it printed, and raises what it raises."""
    try:
        with chdir(project):
            done = CliRunner().invoke(KedroCLI(project), words)
    finally:
        tracking.reset()
    if done.exception:
        raise done.exception
    return done.stdout
