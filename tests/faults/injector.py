"""Inject a fault at the n-th call that reaches the disk, for every n: a kill, or a full disk."""

import errno
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

KILLED = 9  # the exit status of a process that was stopped at its deadly call
_WRITING = ("open", "write", "fsync", "rename", "replace", "mkdir", "sendfile", "serialize_file")
Act = Callable[[], None]


class Calls:
    """Counts entries into calls that reach the disk, and returns from them; acts at the `deadly` one."""

    def __init__(self, deadly: int | None, act: Act, names: tuple[str, ...] = ()) -> None:
        """With `names`, count only entries into functions with these names."""
        self.count, self._deadly, self._act, self._names = 0, deadly, act, names

    def __call__(self, frame: FrameType, event: str, what: Any) -> None:
        """Handle an event of `sys.setprofile`; an error raised here is raised by the call."""
        if not event.startswith("c_") or event == "c_exception" or not _reaches_the_disk(what):
            return
        if self._names and (event != "c_call" or what.__name__ not in self._names or what is os.open):
            return  # os.open opens folders that are removed: reading needs no room
        self.count += 1
        if self.count == self._deadly:
            self._act()


def _reaches_the_disk(what: Any) -> bool:
    module = getattr(what, "__module__", None) or type(getattr(what, "__self__", None)).__module__
    return module in ("posix", "io", "_io") or str(module).endswith("_safetensors_rust")


def counted(work: Act, calls: Calls) -> int:
    """Run `work` under `calls`, and return the number of calls."""
    sys.setprofile(calls)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls.count


def killed_at(deadly: int | None, work: Act) -> bool:
    """Run `work` in a fork of this process that ends at call number `deadly`; return whether it did."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            counted(work, Calls(deadly, lambda: os._exit(KILLED)))
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


def no_room_at(deadly: int, work: Act) -> bool:
    """Run `work` with a full disk at writing call number `deadly`; return whether that call was reached."""
    came = []

    def act() -> None:
        came.append(deadly)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    counted(work, Calls(deadly, act, _WRITING))
    return bool(came)
