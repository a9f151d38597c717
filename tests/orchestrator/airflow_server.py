"""Run a real Airflow on the loopback interface: scheduler, DAG processor and API server, on SQLite."""

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError

import psutil

from project import ROOT

BIN = ROOT / ".airflow/bin"
PATIENCE = 1200  # s, for tasks on a busy machine


class Airflow:
    """Return environment variables for Airflow: its files in `home`, and DAGs of the project at `project`."""

    def __init__(self, home: Path, dags: Path, project: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.home, self._token = f"http://127.0.0.1:{self.port}", home, ""
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment = own | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_VAR_MOBIUS_PROJECT": str(project),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        }

    def python(self, code: str) -> str:
        """Run `code` with Airflow's Python interpreter; return its output."""
        words = [BIN / "python", "-c", code]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run Airflow within the block; at the end, stop it and all processes that it started."""
        subprocess.run(
            [BIN / "airflow", "db", "migrate"], env=self.environment, capture_output=True, check=True
        )
        log = self.home / "airflow.log"
        with log.open("w") as file:
            parts = [
                psutil.Popen([BIN / "airflow", *words], env=self.environment, stdout=file, stderr=file)
                for words in (["api-server"], ["scheduler", "--skip-serve-logs"], ["dag-processor"])
            ]
        try:
            until(lambda: self._is_healthy() or any(part.poll() is not None for part in parts))
            assert all(part.poll() is None for part in parts), log.read_text()[-4000:]
            yield
        finally:
            started = [one for part in parts for one in (part, *part.children(recursive=True))]
            for part in parts:
                part.terminate()
            _, left = psutil.wait_procs(started, timeout=30)
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """Call the REST API; `body` is sent as JSON."""
        if not self._token:
            with urllib.request.urlopen(f"{self.url}/auth/token") as answer:
                self._token = json.load(answer)["access_token"]
        head = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v2{path}", data, head, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def _is_healthy(self) -> bool:
        with suppress(URLError, ConnectionError):
            parts = self.ask("/monitor/health")
            return all(parts[name]["status"] == "healthy" for name in ("scheduler", "dag_processor"))
        return False


def until(
    holds: Callable[[], bool], goes_on: Callable[[], bool] = lambda: True, log: Path | None = None
) -> None:
    """Wait until `holds` returns true.

    Raises:
        AssertionError: After `PATIENCE`, or if `goes_on` returns false; the message has the end of `log`.
    """
    deadline = time.monotonic() + PATIENCE
    while not holds():
        said = log.read_text()[-4000:] if log else ""
        assert goes_on(), said
        assert time.monotonic() < deadline, said
        time.sleep(1)
