"""Run commands of the environment in an interpreter that has already imported the libraries.

A stage of the project takes 2 to 8 s to import third-party packages, and the tests start hundreds of stages.
Here, a server imports these packages once and forks for each command. The child takes over the caller's
folder, environment and open files and calls the function of the command's script; for `python` it runs the
given file. The server imports nothing of the project and no part of Kedro, so a child finds its own project's
code and configuration.

`Commands.start` writes clients for the front of `PATH`. A variable that a library may read while it is
imported must be the same for client and server; otherwise the client runs the real command. The command
of a client is not in its process group: a test that signals a group starts the command itself, as `Started`.
"""

import atexit
import gc
import inspect
import json
import multiprocessing.process
import os
import runpy
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from warm_client import NOT_SERVED, ask

COMMANDS = ("kedro", "dvc", "mobius", "python")
LIBRARIES = (
    "accelerate",
    "av",
    "celery.app",
    "cookiecutter.main",
    "diffusers.models.unets.unet_3d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.optimization",
    "diffusers.pipelines.pipeline_utils",
    "diffusers.training_utils",
    "diffusers.video_processor",
    "dvc.cli",
    "dvc.cli.parser",
    "dvc.repo",
    "dynaconf",
    "fsspec.implementations.local",
    "git",
    "great_expectations",
    "IPython",
    "kombu.transport.filesystem",
    "matplotlib.figure",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "networkx",
    "omegaconf",
    "pandas",
    "plotly.graph_objects",
    "pyarrow.compute",
    "pyarrow.parquet",
    "requests",
    "rich.traceback",
    "scmrepo.git",
    "torch._subclasses.fake_tensor",
    "torch.utils.flop_counter",
    "torchmetrics.image.fid",
    "transformers",
)
# Variables that the libraries do not read while they are imported.
FREE = ("_", "COLUMNS", "KEDRO_ENV", "LINES", "OLDPWD", "PATH", "PWD", "PYTHONPATH", "SHLVL")
FREE_PREFIXES = (
    *("DVC_", "GIT_AUTHOR_", "GIT_COMMITTER_", "MLFLOW_", "MOBIUS_TESTS_", "PYTEST_"),
    "AWS_",  # read when a client is created
    # Libraries set these themselves.
    *("CELERY_", "RAY_", "TORCHELASTIC_", "TORCHINDUCTOR_", "_MLFLOW_", "_MP_FORK_"),
)

FOLDER = "MOBIUS_TESTS_WARM"  # names the folder of clients
NOT_SERVED_LIST = "not_served.txt"

# Started without the environment's packages.
CLIENT = """\
#!{python} -IS
import sys
sys.path.append({folder!r})
import warm_client
warm_client.run(sys.argv[0])
"""


class Commands:
    """The server and the folder of its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the clients and start the server, which imports the libraries at the first request."""
        for name in COMMANDS:
            client = self.folder / name
            client.write_text(CLIENT.format(python=sys.executable, folder=str(Path(__file__).parent)))
            client.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.folder / "socket"))
            listener.listen()
            self.server = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), str(self.folder / NOT_SERVED_LIST)],
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    @property
    def not_served(self) -> list[str]:
        """The commands that were started without the server, each with the variables that differ."""
        path = self.folder / NOT_SERVED_LIST
        return path.read_text().splitlines() if path.exists() else []

    def stop(self) -> None:
        """End the server."""
        assert self.server is not None
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait()


def imported(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that must be equal for a command to use the server's imports."""
    return {
        key: value
        for key, value in environment.items()
        if key not in FREE and not key.startswith(FREE_PREFIXES)
    }


class Started:
    """A command in its own session, as started by a terminal."""

    def __init__(self, words: Sequence[str], folder: Path, environment: dict[str, str], output: Path) -> None:
        """Start the command with the server of `environment`; write its output to the file `output`."""
        script = shutil.which(words[0], path=str(Path(sys.executable).parent))
        assert script is not None
        argv = [script, *words[1:]]
        request = {"argv": argv, "cwd": str(folder), "environment": environment, "session": True}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(f"{environment[FOLDER]}/socket")
        with output.open("w") as log, Path(os.devnull).open() as nothing:
            ask(self._server, [nothing.fileno(), log.fileno(), log.fileno()], request)
        self._answers = self._server.makefile()
        self.pid = int(next(self._answers))
        assert self.pid != NOT_SERVED, "a variable that is read by imports differs from the server's"
        self._output = output

    def running(self) -> bool:
        """Return whether the command is running."""
        return not select.select([self._server], [], [], 0)[0]

    def wait(self, seconds: float) -> tuple[int, str]:
        """Return the exit status, negative for a signal, and the output.

        Raises:
            TimeoutError: If the command does not end within `seconds`.
        """
        self._server.settimeout(seconds)
        with self._server, self._answers:
            return int(next(self._answers)), self._output.read_text()


@dataclass(frozen=True)
class _Child:
    """A running command, and the client that waits for it."""

    process: int
    client: socket.socket


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until standard input is closed.

    Returns:
        In a child, its request; in the server, None.
    """
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    served = imported(dict(os.environ))
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return None
            if key.fileobj is listener:
                client, _ = listener.accept()
                request = _received(client)
                serves = imported(request["environment"]) == served
                if not serves:
                    _report(request, served)
                if serves:
                    _import_libraries()  # the first command waits for this
                process = os.fork() if serves else NOT_SERVED
                if not process:
                    selector.close()
                    listener.close()
                    client.close()
                    return request
                for descriptor in request["files"]:
                    os.close(descriptor)
                client.sendall(f"{process}\n".encode())
                if serves:
                    child = _Child(process, client)
                    selector.register(os.pidfd_open(process), selectors.EVENT_READ, child)
                    selector.register(client, selectors.EVENT_READ, child)
            elif key.data.client.fileno() < 0:  # closed in this round, since its command has ended
                continue
            elif key.fileobj is key.data.client:  # the client was killed: kill its command, too
                selector.unregister(key.fileobj)
                os.kill(key.data.process, signal.SIGKILL)
            else:
                _answer(selector, key)


def _received(client: socket.socket) -> dict[str, Any]:
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    with client.makefile("rb") as lines:
        return {**json.loads(next(lines)), "files": files}


def _report(request: dict[str, Any], served: dict[str, str]) -> None:
    """List a command that is started without the server, and the variables that differ."""
    names = {name for name, _ in imported(request["environment"]).items() ^ served.items()}
    command = " ".join([Path(request["argv"][0]).name, *request["argv"][1:3]])
    with Path(sys.argv[2]).open("a") as file:
        file.write(f"{command}: {', '.join(sorted(names))}\n")


def _answer(selector: selectors.BaseSelector, ended: selectors.SelectorKey) -> None:
    """Send the exit status of a finished command to its client."""
    child: _Child = ended.data
    selector.unregister(ended.fileobj)
    os.close(ended.fd)
    status = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
    if child.client in selector.get_map():
        selector.unregister(child.client)
        with suppress(OSError):  # the client was killed meanwhile
            child.client.sendall(f"{status}\n".encode())
    child.client.close()


def collect_seldom() -> None:
    """Exclude existing objects from garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


@cache
def _import_libraries() -> None:
    gc.disable()  # until everything is imported
    for name in LIBRARIES:
        import_module(name)
    # Fills a cache of `inspect` with the files of all modules, else Kedro's settings do so in each child.
    inspect.getmodule(compile("", "no module's file", "exec"))
    for library_end in weakref.finalize._registry:  # type: ignore[attr-defined]
        library_end.atexit = False  # saves 30 ms; these end with the process anyway
    collect_seldom()


def become(request: dict[str, Any]) -> None:
    """Take over the folder, environment, files and command of the client."""
    if request["session"]:
        os.setsid()
    for descriptor, own in zip(request["files"], (0, 1, 2), strict=True):
        os.dup2(descriptor, own)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    own_path = os.environ.get("PYTHONPATH", "")
    sys.path[:1] = [str(Path(request["argv"][0]).resolve().parent), *filter(None, own_path.split(os.pathsep))]
    sys.path.append(str(Path(__file__).parent))  # spawned processes import this file again
    sys.argv = request["argv"]
    multiprocessing.process.ORIGINAL_DIR = request["cwd"]  # processes derive the script's path from it
    sys.modules["numpy"].random.seed()  # `random` reseeds itself after a fork


class Ending:
    """Exits once the status of a command is known, before the interpreter frees imported objects."""

    def __init__(self) -> None:
        """Register the exit before the libraries are imported, so that it runs after their exit handlers."""
        self.status: int | None = None
        self._entries = {
            one.name: one for one in entry_points(group="console_scripts") if one.name in COMMANDS
        }
        atexit.register(self)

    def __call__(self) -> None:
        """Exit at once; freeing the imported objects one by one would take 0.4 s."""
        if self.status is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.status)

    def run(self, script: str) -> None:
        """Run a command. The interpreter handles errors and exit statuses that are text.

        For an installed script, only its function is called: its child processes would otherwise import the
        script again, and Kedro with it.
        """
        entry = self._entries.get(Path(script).name)
        try:
            self.status = (entry.load()() or 0) if entry else _run_file(script)
        except SystemExit as error:
            self.status = error.code or 0 if not isinstance(error.code, str) else None
            raise


def _run_file(script: str) -> int:
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    ending = Ending()
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        found = serve(listening)
    if found:
        become(found)
        ending.run(sys.argv[0])
