"""A Kedro-Viz that serves a project, as `kedro viz run` starts it."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path

from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking import ui
from ports import free_port

# Kedro-Viz asks PyPI for its newest version when it starts; the tests use no network.
NO_WAY_OUT = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": tracking.HOST}
FONTS = ("https://fonts.googleapis.com", "https://fonts.gstatic.com")  # of its page; no telemetry


@contextmanager
def serving(project: Path) -> Iterator[str]:
    """Run the server, and yield its address."""
    port = free_port(4141)
    address = f"http://{tracking.HOST}:{port}"
    options = ["--no-browser", f"--host={tracking.HOST}", f"--port={port}"]
    words = [sys.executable, "-m", "kedro", "viz", "run", *options]
    with chdir(project), ui.running_server(words, {**os.environ, **NO_WAY_OUT}) as server:
        wait_until_up(server, address)
        yield address


def wait_until_up(server: "subprocess.Popen[bytes]", address: str) -> None:
    for _ in range(120):
        assert server.poll() is None, "Kedro-Viz ended; its words stand above"
        with suppress(urllib.error.URLError), urllib.request.urlopen(address, timeout=2):
            return
        time.sleep(0.5)
    raise AssertionError("Kedro-Viz did not answer within a minute")
