"""Replace spawned processes of `multiprocessing` by forks of a server that has imported their modules.

A spawned process imports the project again, which takes 0.3 s for decoding and 4 s for training, and the
tests start hundreds. Processes that commands start are still spawned, as for users.
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
    """Context that starts the server at its first use; the server has only run imports."""

    def _check_available(self) -> None:
        super()._check_available()
        self.set_forkserver_preload(PRELOADED)
        # Python 3.11's server finds modules only there.
        with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
            multiprocessing.forkserver.ensure_running()


def fork_own_server() -> None:
    """Fork the server of this process's `forkserver` context. Call it before threads start."""
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
    """Let `get_context` return forked processes for "spawn" and "forkserver" in this process."""
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = contexts["forkserver"] = Forked()
