"""Processes that `multiprocessing` would spawn, forked from a server that has imported what they need.

A spawned process imports the project anew, which takes 0.3 s where it decodes and 4 s where it trains, and
the tests start hundreds. The processes that commands start are spawned, as a user's are.
"""

import multiprocessing.context
import multiprocessing.forkserver
import os
import sys
from unittest.mock import patch

PRELOADED = ["encoder", "several", "victim", "mobius_pipeline.ingest.describe"]


class Forked(multiprocessing.context.ForkServerContext):
    """Starts the server when it is first asked for, which has run nothing but imports."""

    def _check_available(self) -> None:
        super()._check_available()
        self.set_forkserver_preload(PRELOADED)
        # Python 3.11's server looks for modules nowhere else.
        with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
            multiprocessing.forkserver.ensure_running()


def in_place_of_spawned() -> None:
    """Have `get_context` give these for "spawn" and "forkserver" in this process."""
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = contexts["forkserver"] = Forked()
