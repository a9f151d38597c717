"""Serve MLflow's UI on this machine only: start the server, wait for it, and end it with its processes."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking.backend import experiment_id
from mobius_pipeline.tracking.embedded import HOST, EmbeddedStore
from mobius_pipeline.tracking.outbox import SERVER_SECONDS, patiently
from mobius_pipeline.tracking.page import VIEW
from mobius_pipeline.tracking.settings import Store, read_project, store_of
from mobius_pipeline.tracking.sink import raise_unavailable

PORTS_TRIED = 50
START_SECONDS = 120.0  # the server takes 12 s on an idle machine


def serve(project: Path, port: int) -> None:
    """Serve MLflow's UI on this machine only, until it is interrupted.

    If a tracking server records the runs, only print the addresses of its pages.

    Raises:
        MobiusError: If `project` is not a project, nothing was recorded yet, or the server does not start.
    """
    store = recorded_store(project)
    if not isinstance(store, EmbeddedStore):
        ask = raise_unavailable()(lambda: experiment_id(store))
        print_pages(runs_page(store.pages, patiently(store.label, ask, SERVER_SECONDS)))
        return
    chosen = free_port(port)
    if chosen != port:
        print(f"Port {port} is taken: using {chosen}.")
    print("Starting the MLflow UI (about 15 s) ...", flush=True)
    with running_server(ui_command(store, chosen), ui_environment()) as server:
        experiment = experiment_id(store)  # imports MLflow, while the server does so too
        wait_until_up(server, chosen)
        print_pages(runs_page(f"http://{HOST}:{chosen}", experiment), "  (Ctrl-C stops it)")
        server.wait()


def print_pages(page: str, hint: str = "") -> None:
    """Print the addresses of the table of runs and of its charts."""
    print(f"Open    {page}{hint}\nCharts  {page}&compareRunsMode=CHART", flush=True)


def runs_page(pages: str, experiment: str) -> str:
    """Return the address of the experiment's runs in the view that compares both modes.

    MLflow's front page is about GenAI traces, and its default columns show no metrics.
    """
    view = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"{pages}/#/experiments/{experiment}/runs?{view}"


def recorded_store(project: Path) -> Store:
    """Return the store of the project; an embedded one must have a database.

    Raises:
        MobiusError: If `project` is not a project of this package, or nothing was recorded yet.
    """
    store = store_of(read_project(project), project)
    if not store.exists:
        raise MobiusError(
            f"Nothing was recorded yet: there is no {store.label}. Train first, with `make demo`."
        )
    return store


def free_port(first: int) -> int:
    """Return the first free port from `first` on.

    Raises:
        MobiusError: If none of the next ports is free.
    """
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise MobiusError(
        f"No port from {first} to {first + PORTS_TRIED - 1} is free. Choose another one with --port."
    )


def ui_command(store: EmbeddedStore, port: int) -> list[str]:
    """Return the server's command line; MLflow's default would also accept foreign host names."""
    options = {
        "--backend-store-uri": store.uri,
        "--host": HOST,
        "--port": str(port),
        "--allowed-hosts": f"localhost:{port},{HOST}:{port}",
        "--workers": "1",
        "--uvicorn-opts": "--log-level warning",
    }
    return [sys.executable, "-m", "mlflow", "ui", *(word for pair in options.items() for word in pair)]


def ui_environment() -> dict[str, str]:
    """Return the environment of a server that unpickles nothing and runs no jobs."""
    own = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**os.environ, **own}


@contextmanager
def running_server(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and end it and all processes that it started, also on SIGTERM."""

    def stop(*_: object) -> None:
        raise SystemExit(143)

    previous = signal.signal(signal.SIGTERM, stop)
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):  # it has already ended
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        signal.signal(signal.SIGTERM, previous)


def wait_until_up(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers.

    Raises:
        MobiusError: If it ends, or does not answer within `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise MobiusError(f"The MLflow UI ended with status {server.returncode}; its output is above.")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (OSError, HTTPException):  # the latter if the socket connected to itself: no server yet
            time.sleep(0.3)
    raise MobiusError(f"The MLflow UI did not answer on port {port} within {START_SECONDS:.0f} s.")
