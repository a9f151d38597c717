"""The console script `mobius`: commands that Kedro does not have."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mobius_pipeline.comparison.terminal import print_summary
from mobius_pipeline.planning.options import plan_command_line
from mobius_pipeline.runtime import telemetry
from mobius_pipeline.runtime.click_types import LocalOutput, LocalPath
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from mobius_pipeline.runtime.redaction import guard_logs, redacted_traceback
from mobius_pipeline.runtime.signals import sigterm_unwinds
from mobius_pipeline.runtime.threads import spin_briefly
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.copied import copy_project_runs
from mobius_pipeline.tracking.ui import recorded_store, serve


@click.group()
def cli() -> None:
    """Plan, inspect, compare and export trainings."""


@cli.command(
    "ui",
    help="Open the MLflow UI on this machine only, or print the addresses of the tracking server's pages.",
)
@click.option("--port", default=tracking.PORT, show_default=True, help="The first port to try.")
def ui_command_line(port: int) -> None:
    """Serve the UI of the project in the working directory."""
    serve(Path.cwd(), port)


@cli.command("summary", help="Print the comparison.")
@click.option(
    "--data",
    type=LocalPath(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="The data folder.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown for a pull request's comment (docs/ci.md).")
def summary_command_line(data: Path, markdown: bool) -> None:
    """Print the comparison in the data folder `data`."""
    print_summary(data, markdown)


@cli.command("relocate", help="Update the artifact paths of the runs after a project was moved or copied.")
def relocate_command_line() -> None:
    """Update the artifact paths in the database of the project in the working directory.

    Raises:
        MobiusError: If a server records the runs.
    """
    store = recorded_store(Path.cwd())
    if not isinstance(store, tracking.EmbeddedStore):
        raise MobiusError(
            f"{store.label} records the runs and stores no path of this project: nothing to relocate."
        )
    print(
        f"Updated the artifact paths of {tracking.relocate(store)} runs; all are now below {store.artifacts}."
    )


@cli.command("copy-runs", help="Copy the runs of the embedded store to the tracking server.")
@click.option("--to", "uri", help="The server's address. [default: from MLFLOW_TRACKING_URI or tracking.yml]")
def copy_runs_command_line(uri: str | None) -> None:
    """Copy the runs that the project in the working directory recorded before it had a server."""
    copy_project_runs(Path.cwd(), uri)


@cli.command("export", help="Write the result of a training and its base as one folder.")
@click.argument("trained", type=LocalPath(path_type=Path))
@click.option(
    "--base",
    type=LocalPath(path_type=Path),
    required=True,
    help="The folder of the base that it was trained on.",
)
@click.option("--output", type=LocalOutput(path_type=Path), required=True, help="The folder to write.")
def export_command_line(trained: Path, base: Path, output: Path) -> None:
    """Export a training: serial for diffusers' pipeline, parallel for the pipeline of this project."""
    from mobius_pipeline.models.export import export  # torch takes seconds to load

    print(f"Wrote {export(trained, base, output)}")


@cli.command("join", help="Join a training that was started on the main machine.")
@click.argument("job", type=LocalPath(path_type=Path))
def join_command_line(job: Path) -> None:
    """Run this machine's processes of the training that wrote the file `job`."""
    from mobius_pipeline.training.train_mode import join_training  # torch takes seconds to load

    join_training(job)


cli.add_command(plan_command_line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors that a user can fix are printed without a traceback.

    Kedro also finds `cli` in a module of this name, and lists its commands with its own.
    """
    telemetry.silence()
    spin_briefly()
    guard_logs()
    sigterm_unwinds()
    try:
        cli.main(arguments, prog_name="mobius", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:
        words = in_plain_words(error)
        if words is None:
            if shown := redacted_traceback(error):
                print(shown, file=sys.stderr)
                return 1
            raise
        print(f"mobius: {words}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
