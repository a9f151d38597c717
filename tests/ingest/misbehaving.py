"""A decoder that fails in many ways. It imports neither pandas nor PyAV, to restart its process quickly."""

import os
import signal
import sys
import time
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError


class Odd(Exception):  # noqa: N818
    """An error that cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def is_imported(name: str) -> bool:
    """Return whether this process has imported a module."""
    return name in sys.modules


def misbehave(folder: Path, name: str) -> list[dict[str, str]]:
    """Fail in the way that the file's name says, and record the attempt."""
    with (folder / f"{name}.tries").open("a") as tries:
        tries.write("x")
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "exit":
        os._exit(3)
    if name == "refuse":
        raise MobiusError("nobody can")
    if name == "odd":
        raise Odd(1, 2)
    if name == "hang":
        time.sleep(60)
    if name == "swell":
        bytearray(4 << 30)
    if name == "flaky" and len((folder / f"{name}.tries").read_text()) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"name": name}]
