"""Ports for the servers of tests."""

import os

from mobius_pipeline.tracking import ui


def free_port(first: int) -> int:
    """Return a free port that no other worker takes at the same time: each starts at another one."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ui.free_port(first + 10 * worker)
