"""Tag runs with their process, so that the run of a killed one does not stay RUNNING forever."""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import psutil

log = logging.getLogger(__name__)

_HOST, _PID, _BORN = "process.host", "process.id", "process.born"
_SAME = 1.0  # s; tolerance for two readings of a process's start time


def owner_tags() -> dict[str, str]:
    """Return tags that identify the running process as the owner of a run."""
    own = psutil.Process()
    return {_HOST: socket.gethostname(), _PID: str(own.pid), _BORN: f"{own.create_time():.2f}"}


def close_orphans(client: Any, experiment: str) -> None:
    """Set RUNNING runs whose process has ended to KILLED, with the reason in the tag `ended`.

    Runs of other machines and runs without an owner's tags are left alone: their state is unknown here.
    """
    for run in client.search_runs([experiment], filter_string="attributes.status = 'RUNNING'"):
        if not is_gone(run.data.tags):
            continue
        reason = (
            f"process {run.data.tags[_PID]} ended without closing the run (killed, or the machine went down)"
        )
        client.set_tag(run.info.run_id, "ended", reason)
        client.set_terminated(run.info.run_id, "KILLED")
        log.warning("Run %s (%s) was still RUNNING: %s. Closed.", run.info.run_name, run.info.run_id, reason)


def is_gone(tags: Mapping[str, str]) -> bool:
    """Return whether the tags name an ended process of this machine, even if its id was reused since."""
    if tags.get(_HOST) != socket.gethostname() or _PID not in tags or _BORN not in tags:
        return False
    number = int(tags[_PID])
    if number == os.getpid():
        return False
    try:
        born: float = psutil.Process(number).create_time()
    except psutil.NoSuchProcess:
        return True
    return abs(born - float(tags[_BORN])) > _SAME
