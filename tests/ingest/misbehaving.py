"""A decoder that breaks; without pandas and PyAV, since each process that it ends is started again."""

import os
import signal
import sys
import time
from pathlib import Path

from mobius_pipeline.runtime.errors import MobiusError


class Odd(Exception):  # noqa: N818
    """One that cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def is_imported(name: str) -> bool:
    """Whether this process has imported a module."""
    return name in sys.modules


def misbehave(folder: Path, name: str) -> list[dict[str, str]]:
    """What a broken decoder may do, by the file's name; how often it was tried is written down."""
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
