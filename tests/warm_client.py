"""Client that replaces a command in the tests: it asks the server of tests/warm.py to run the command.

It is a separate module that imports little, so that it starts within 20 ms.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

NOT_SERVED = -1


def run(client: str) -> None:
    """Let the server run the command of a client, or run the real one; exit with its status."""
    own, words = Path(client), sys.argv[1:]
    real = [str(Path(sys.executable).parent / own.name), *words]
    if own.name == "python" and not (words and words[0].endswith(".py")):
        os.execv(real[0], real)
    script = words if own.name == "python" else real
    request = {"argv": script, "cwd": str(Path.cwd()), "environment": dict(os.environ), "session": False}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(own.parent / "socket"))
        answers = server.makefile()
        ask(server, [0, 1, 2], request)
        child = int(next(answers))
        if child == NOT_SERVED:
            os.execv(real[0], real)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(child, number))
        status = int(next(answers))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def ask(server: socket.socket, files: list[int], request: dict[str, Any]) -> None:
    """Send a command and its standard files to the server."""
    socket.send_fds(server, [b"\0"], files)
    server.sendall(json.dumps(request).encode() + b"\n")
