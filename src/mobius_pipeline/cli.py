"""The console script `mobius`: what Kedro's own commands do not cover."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from mobius_pipeline.comparison import summary
from mobius_pipeline.runtime import telemetry
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from mobius_pipeline.runtime.files import read_document
from mobius_pipeline.runtime.redaction import guard_logs, redacted_traceback
from mobius_pipeline.tracking import api as tracking

PORTS_TRIED = 50
START_SECONDS = 120.0  # the server takes 12 s on an idle machine
WIDTH = 100  # columns of the summary and the plan
PROJECT_SETTINGS = "conf/base/mlflow.yml"


@click.group()
def cli() -> None:
    """Serial against parallel, seen and summed up."""


@cli.command("ui", help="Open the MLflow UI on this machine only.")
@click.option("--port", default=tracking.PORT, show_default=True, help="The first port to try.")
def ui_command_line(port: int) -> None:
    """Serve the UI of the project in the working directory."""
    serve(Path.cwd(), port)


@cli.command("summary", help="Print the comparison.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="The data folder.",
)
def summary_command_line(data: Path) -> None:
    """Print the comparison below `data`."""
    print_summary(data)


@cli.command("plan", help="Predict memory and FLOPs of a training, without a GPU and without weights.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="A UNet's config.json, or a model's folder in diffusers' layout.",
)
@click.option("--frames", type=click.IntRange(1), default=16, show_default=True, help="Frames a clip.")
@click.option("--height", type=click.IntRange(1), default=256, show_default=True, help="Pixels.")
@click.option("--width", type=click.IntRange(1), default=256, show_default=True, help="Pixels.")
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True, help="Clips a step.")
@click.option("--text-tokens", type=click.IntRange(1), default=77, show_default=True)
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    default=24,
    show_default=True,
    help="GiB to find the largest batch and frame count for.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The JSON file to write.")
def plan_command_line(config: Path, memory: float, output: Path, **sizes: int) -> None:
    """Plan a training over a base; inside a project the plan is also a run in MLflow."""
    from mobius_pipeline.planning.command import plan_base  # torch takes seconds to load

    settings = Path.cwd() / PROJECT_SETTINGS
    if settings.is_file():
        tracking.configure(read_tracking(settings), Path.cwd())
    plan_base(config, memory, output, Console(width=WIDTH, highlight=False), **sizes)


@cli.command(
    "relocate", help="Have the runs of a moved or copied project name their files where they are now."
)
def relocate_command_line() -> None:
    """Rewrite the places of artifacts in the database of the project in the working directory."""
    store = recorded_store(Path.cwd())
    print(f"{tracking.relocate(store)} runs were kept elsewhere; all name {store.artifacts} now.")


@cli.command("export", help="Write a training's result with its base as one folder.")
@click.argument("trained", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), required=True, help="What it was trained over.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The folder to write.")
def export_command_line(trained: Path, base: Path, output: Path) -> None:
    """Export a training: serial for diffusers' own pipeline, parallel for this project's."""
    from mobius_pipeline.models.export import export  # torch takes seconds to load

    print(f"Wrote {export(trained, base, output)}")


@cli.command("join", help="Take part in a training that another machine leads.")
@click.argument("job", type=click.Path(path_type=Path))
def join_command_line(job: Path) -> None:
    """Run this machine's processes of the training that `job` was written for."""
    from mobius_pipeline.training.train_mode import join_training  # torch takes seconds to load

    join_training(job)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors that a user can mend are printed without a traceback.

    Kedro finds `cli` in a module of this name too: its commands stand beside Kedro's own.
    """
    telemetry.silence()
    guard_logs()
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


def print_summary(data: Path) -> None:
    """Print the comparison table, then where the report and the videos lie.

    Raises:
        MobiusError: If there is no comparison below `data` yet.
    """
    source = data / "08_reporting/comparison.json"
    if not source.is_file():
        raise MobiusError(f"There is no comparison at {source}. Make one: `make demo`, or `kedro run`.")
    comparison = read_document(
        source, dict[str, Any], "Run `kedro run --pipelines=compare`, which makes it again."
    )
    if "points" not in comparison:
        raise MobiusError(f"{source} is of an earlier version. Make it again: kedro run --pipelines=compare")
    console = Console(width=WIDTH, highlight=False)
    console.print(comparison_table(comparison))
    console.print(comparison["verdict"], soft_wrap=False, markup=False)
    console.print(f"\nReport   {source.with_suffix('.html')}", soft_wrap=True)
    for folder in _sample_folders(comparison, data / "07_model_output"):
        console.print(f"Videos   {folder}", soft_wrap=True)
    console.print("Compare the runs in MLflow:  make ui", soft_wrap=True)


def _sample_folders(comparison: summary.Json, media_root: Path) -> list[Path]:
    """Where each column's videos lie."""
    first_videos = (column["samples"][0]["mp4"] for column in comparison["columns"].values())
    return [Path(os.path.normpath(media_root / video)).parent for video in first_videos]


def comparison_table(comparison: summary.Json) -> Table:
    """Return the table of what decides: a row a column, and each against the first."""
    measures = summary.rows(comparison)
    first, *others = comparison["columns"]
    table = Table(title=" against ".join([first, *others]), title_justify="left")
    table.add_column("", no_wrap=not others[1:])
    for measure in measures:
        table.add_column(measure.name, justify="right")
    table.add_row("base, untrained", *(measure.start for measure in measures), style="dim")
    for index, label in enumerate([first, *others]):
        table.add_row(label, *(measure.values[index] for measure in measures))
    table.add_section()
    for index, label in enumerate(others):
        table.add_row(f"{label} vs {first}", *(measure.changes[index] for measure in measures), style="bold")
    return table


def serve(project: Path, port: int) -> None:
    """Serve MLflow's UI on this machine only, until it is interrupted.

    Raises:
        MobiusError: If this is no project, nothing was recorded yet, or the server does not start.
    """
    store = recorded_store(project)
    chosen = free_port(port)
    if chosen != port:
        print(f"Port {port} is taken: using {chosen}.")
    print("Starting the MLflow UI (about 15 s) ...", flush=True)
    with running_server(ui_command(store, chosen), ui_environment()) as server:
        experiment = tracking.experiment_id(store)  # loads MLflow, as the server does meanwhile
        wait_until_up(server, chosen)
        page = runs_page(chosen, experiment)
        print(f"Open    {page}  (Ctrl-C stops it)\nCharts  {page}&compareRunsMode=CHART", flush=True)
        server.wait()


def runs_page(port: int, experiment: str) -> str:
    """Return the address of the experiment's runs in the view of both modes.

    MLflow's front page is about GenAI traces, and its own columns show no metric.
    """
    view = f"workflowType=machine_learning&viewStateShareKey={tracking.VIEW}"
    return f"http://{tracking.HOST}:{port}/#/experiments/{experiment}/runs?{view}"


def recorded_store(project: Path) -> tracking.Store:
    """Return the store of the project, which must hold a database.

    Raises:
        MobiusError: If `project` is no project of this package, or nothing was recorded yet.
    """
    settings = project / PROJECT_SETTINGS
    if not settings.is_file():
        raise MobiusError(
            f"There is no {settings}. Give this command (or `make ui`) in the project's folder."
        )
    store = tracking.store_of(read_tracking(settings), project)
    if not store.database.is_file():
        raise MobiusError(
            f"Nothing was recorded yet: there is no {store.database}. Train first, with `make demo`."
        )
    return store


def read_tracking(settings: Path) -> tracking.TrackingConfig:
    """Read a project's `conf/base/mlflow.yml`."""
    return tracking.TrackingConfig.model_validate(yaml.safe_load(settings.read_text(encoding="utf-8")))


def free_port(first: int) -> int:
    """Return the first free port from `first` on.

    Raises:
        MobiusError: If none of the next ports is free.
    """
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            try:
                probe.bind((tracking.HOST, port))
            except OSError:
                continue
            return port
    raise MobiusError(
        f"No port from {first} to {first + PORTS_TRIED - 1} is free. Name another one with --port."
    )


def ui_command(store: tracking.Store, port: int) -> list[str]:
    """Return the server's command line; its own default would also answer to foreign host names."""
    words = {
        "--backend-store-uri": store.uri,
        "--host": tracking.HOST,
        "--port": str(port),
        "--allowed-hosts": f"localhost:{port},{tracking.HOST}:{port}",
        "--workers": "1",
        "--uvicorn-opts": "--log-level warning",
    }
    return [sys.executable, "-m", "mlflow", "ui", *(word for pair in words.items() for word in pair)]


def ui_environment() -> dict[str, str]:
    """Return the environment of a server that unpickles nothing and runs no jobs."""
    own = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**os.environ, **own}


@contextmanager
def running_server(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and end it with every process that it started, also on SIGTERM."""

    def stop(*_: object) -> None:
        raise SystemExit(143)

    previous = signal.signal(signal.SIGTERM, stop)
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        signal.signal(signal.SIGTERM, previous)


def wait_until_up(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers.

    Raises:
        MobiusError: If it ends or stays silent for `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise MobiusError(f"The MLflow UI ended with status {server.returncode}; its words stand above.")
        try:
            with urllib.request.urlopen(f"http://{tracking.HOST}:{port}/health", timeout=2):
                return
        except (OSError, HTTPException):  # the latter where a socket to a port without a server met itself
            time.sleep(0.3)
    raise MobiusError(f"The MLflow UI did not answer on port {port} within {START_SECONDS:.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
