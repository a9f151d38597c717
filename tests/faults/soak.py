"""Track the memory and open files of this process and its children during long work."""

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
    """Measure this process and all its descendants."""
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
    """Run `work`; return measurements that were taken twice a second."""
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
    """Return the growth from the second quarter to the last, by medians."""
    quarter = len(seen) // 4
    second, last = seen[quarter : 2 * quarter], seen[3 * quarter :]
    return Held(
        statistics.median(one.mib for one in last) - statistics.median(one.mib for one in second),
        round(statistics.median(one.files for one in last) - statistics.median(one.files for one in second)),
    )
