"""Which process records a run: so that the run of a killed one does not stay RUNNING for ever."""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Any

import psutil

log = logging.getLogger(__name__)

_HOST, _PID, _BORN = "process.host", "process.id", "process.born"
_SAME = 1.0  # s; how far two readings of a process's birth may lie apart


def owner_tags() -> dict[str, str]:
    """The running process, as a run's tags."""
    own = psutil.Process()
    return {_HOST: socket.gethostname(), _PID: str(own.pid), _BORN: f"{own.create_time():.2f}"}


def close_orphans(client: Any, experiment: str) -> None:
    """End runs as KILLED that are RUNNING and whose process has ended, with the reason in the tag `ended`.

    A run of another machine, or one that names no process, is left alone: its state cannot be known here.
    """
    for run in client.search_runs([experiment], filter_string="attributes.status = 'RUNNING'"):
        if not is_gone(run.data.tags):
            continue
        reason = f"process {run.data.tags[_PID]} ended without a word (killed, or the machine went down)"
        client.set_tag(run.info.run_id, "ended", reason)
        client.set_terminated(run.info.run_id, "KILLED")
        log.warning("Run %s (%s) was still RUNNING: %s. Closed.", run.info.run_name, run.info.run_id, reason)


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the tags name a process of this machine that has ended; its number may be another's by now."""
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
