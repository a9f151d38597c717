"""Processes that `multiprocessing` would spawn, forked from a server that has imported what they need.

A spawned process imports the project anew, which takes 0.3 s where it decodes and 4 s where it trains, and
the tests start hundreds. The processes that commands start are spawned, as a user's are.
"""

import multiprocessing.context
import multiprocessing.forkserver
import os
import sys
import threading
from collections.abc import Sequence
from multiprocessing import resource_tracker, util
from typing import Any
from unittest.mock import patch

PRELOADED = ["encoder", "several", "victim", "mobius_pipeline.ingest.describe", "settled"]


class Forked(multiprocessing.context.ForkServerContext):
    """Starts the server when it is first asked for, which has run nothing but imports."""

    def _check_available(self) -> None:
        super()._check_available()
        self.set_forkserver_preload(PRELOADED)
        # Python 3.11's server looks for modules nowhere else.
        with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
            multiprocessing.forkserver.ensure_running()


def fork_own_server() -> None:
    """Fork the server of this process's `forkserver` context. Call before there are threads."""
    spawned = util.spawnv_passfds
    server: Any = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]

    def forked(_path: str, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        if process := os.fork():
            return process
        util.spawnv_passfds = spawned
        server._lock = threading.Lock()  # held while the server is started
        kept = sorted([0, 1, 2, resource_tracker._resource_tracker._fd, *descriptors])  # type: ignore[attr-defined]
        for before, after in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(before + 1, after)
        try:
            exec(arguments[-1])
        finally:
            os._exit(0)

    server.set_forkserver_preload([])
    with patch.object(util, "spawnv_passfds", forked):
        server.ensure_running()


def in_place_of_spawned() -> None:
    """Have `get_context` give these for "spawn" and "forkserver" in this process."""
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = contexts["forkserver"] = Forked()
