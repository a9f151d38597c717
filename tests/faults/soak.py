"""What this process and its children hold, followed over a long work."""

import statistics
from collections.abc import Callable
from threading import Event, Thread
from typing import NamedTuple

import psutil

MIB = 1 << 20
EVERY_S = 0.5


class Held(NamedTuple):
    """Resident memory in MiB, and the number of open files."""

    mib: float
    files: int


def held() -> Held:
    """What this process and all below it hold now."""
    mib, files = 0.0, 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            mib += process.memory_info().rss / MIB
            files += process.num_fds()
        except psutil.NoSuchProcess:
            continue
    return Held(mib, files)


def followed(work: Callable[[], object]) -> list[Held]:
    """Do `work`; return what was held meanwhile, twice a second."""
    ended, seen = Event(), list[Held]()

    def follow() -> None:
        while not ended.wait(EVERY_S):
            seen.append(held())

    thread = Thread(target=follow)
    thread.start()
    try:
        work()
    finally:
        ended.set()
        thread.join()
    return seen


def growth(seen: list[Held]) -> Held:
    """How much more was held in the last quarter than in the second, by their medians."""
    quarter = len(seen) // 4
    second, last = seen[quarter : 2 * quarter], seen[3 * quarter :]
    return Held(
        statistics.median(one.mib for one in last) - statistics.median(one.mib for one in second),
        round(statistics.median(one.files for one in last) - statistics.median(one.files for one in second)),
    )
