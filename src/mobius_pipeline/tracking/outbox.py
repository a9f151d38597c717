"""Background delivery of records: in order, and kept while the receiver is unavailable."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

from mobius_pipeline.runtime.errors import MobiusError

log = logging.getLogger(__name__)

T = TypeVar("T")
SERVER_SECONDS = 10.0  # time limit for the first answer of a server

# What to do if an MLflow server refuses access, for messages.
LOG_IN = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), or name an entry "
    "of conf/local/credentials.yml as `credentials` in conf/local/tracking.yml"
)
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # s between attempts; each pause is twice the previous one


class UnavailableError(Exception):
    """The receiver cannot accept a record now, but may later."""


class RefusedError(UnavailableError):
    """The receiver denies access to this user: before work starts, waiting is pointless."""


def patiently(receiver: str, ask: Callable[[], T], seconds: float) -> T:
    """Return the result of `ask`, retrying for `seconds`. For calls that must succeed before work starts.

    Raises:
        MobiusError: If `receiver` stays unavailable, or denies access.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return ask()
        except RefusedError as error:
            raise MobiusError(f"{receiver} refuses access: {error}. Nothing was started.") from error
        except UnavailableError as error:
            left = deadline - time.monotonic()
            if left < 0:
                raise MobiusError(
                    f"{receiver} cannot be reached ({error}), tried for {seconds:.0f} s. Nothing was "
                    "started. Check the server or the lock on its database, and run the same command again."
                ) from error
            log.warning("%s cannot be reached (%s): waiting for it, %.0f s more.", receiver, error, left)
            time.sleep(min(pause, max(left, 0.0)))
            pause *= 2


class Delivery:
    """Sends records one after the other from a background thread, so that callers do not wait.

    A record that the receiver cannot accept now is retried, and later records wait. Any other error of a
    record is raised by the next call of a method, and the record is dropped.
    """

    def __init__(self, receiver: str) -> None:
        """Deliver to `receiver`, its name in messages."""
        self._receiver = receiver
        self._waiting: deque[tuple[str, int, Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._why = ""  # the reason why the receiver did not accept the waiting record
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"deliver to {receiver}", daemon=True)
        self._thread.start()

    def put(self, kind: str, count: int, send: Callable[[], None]) -> None:
        """Queue a call of `send`, which delivers `count` records of a `kind`."""
        self._raise()
        with self._changed:
            self._waiting.append((kind, count, send))
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until everything is delivered, for at most `seconds`; return whether it was."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._error, seconds)
        self._raise()
        return not self._waiting

    def close(self, seconds: float) -> None:
        """Wait for at most `seconds`, then stop.

        Raises:
            MobiusError: If records are left, with their number and the reason.
        """
        try:
            self.wait(seconds)
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        if lost := self._lost():
            raise MobiusError(
                f"{self._receiver} could not be reached until the end ({self._why}). Not recorded: {lost}. "
                "Make room on the disk, or check the server or the lock on its database, and run the same "
                "command again. What was finished before is kept."
            )

    def _lost(self) -> str:
        counts: Counter[str] = Counter()
        for kind, count, _ in list(self._waiting):
            counts[kind] += count
        return ", ".join(f"{count} x {kind}" for kind, count in counts.items())

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while send := self._next():
            pause = FIRST_PAUSE
            while not self._sent(send, pause) and not self._rest(pause):
                pause = min(2 * pause, LONGEST_PAUSE)
            with self._changed:
                if not self._closed:
                    self._waiting.popleft()
                    self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting[0][2]

    def _sent(self, send: Callable[[], None], pause: float) -> bool:
        try:
            send()
        except UnavailableError as error:
            self._why = str(error)
            if pause == FIRST_PAUSE:
                log.warning(
                    "%s cannot be reached (%s). Work continues; records are kept and retried.",
                    self._receiver,
                    error,
                )
            return False
        except Exception as error:  # raised by the next call
            self._error = error
        else:
            if pause > FIRST_PAUSE:
                log.warning("%s can be reached again; the kept records are delivered.", self._receiver)
        return True

    def _rest(self, pause: float) -> bool:
        """Wait between two attempts; return whether delivery was closed meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, pause)
