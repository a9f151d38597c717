"""Work on one clip that may fail without taking the run with it: tried again, then reported.

A clip is decoded in a watched process (`media.isolated_worker`). The VAE stays in the process whose GPU it
holds: this one, one of `latents.processes`, or an actor of Ray's. Daft restarts an actor that dies and
repeats what it was at, but does not say what killed it: a clip that always does would be tried for ever. So
it is written down, outside of the actor, what was begun.
"""

import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.isolated_worker import Failed
from mobius_pipeline.runtime.daft_runner import EngineConfig
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words

T = TypeVar("T")

DIED = "its process was killed or crashed each time"
_LONGEST = 200  # letters of a reason


@dataclass(frozen=True)
class Attempts:
    """How often work is tried again; it is sent to the workers.

    Args:
        retries: Of one piece of work.
        in_flight: The name of the `InFlight` that counts deaths; None where a worker's death is the run's.
    """

    retries: int
    in_flight: str | None = None

    def one_at_a_time(self, clip_id: str, work: Callable[[], T]) -> tuple[T | None, str]:
        """What `attempt` says of work on a clip that has its worker for itself.

        Raises:
            Exception: An error that is not the clip's own and would meet the next one too.
        """
        try:
            return self._watched(clip_id, lambda: attempt(work, self.retries))
        except _Deadly:
            return None, DIED

    def of_the_run(self, name: str, work: Callable[[], T]) -> T:
        """What `work` returns, without which the run cannot go on; on each worker it is a piece of its own.

        Raises:
            MobiusError: If its process did not survive it, each time that it was tried.
        """
        try:
            return self._watched(f"{name} {_worker()}" if self.in_flight else name, work)
        except _Deadly as error:
            raise MobiusError(
                f"The process that worked on {name} was killed or crashed each time; perhaps its machine "
                "is short of memory. What is finished stays, and `kedro run --pipelines=encode` goes on from "
                "there."
            ) from error

    def _watched(self, name: str, work: Callable[[], T]) -> T:
        if self.in_flight is None:
            return work()
        import ray

        in_flight = ray.get_actor(self.in_flight)
        if ray.get(in_flight.begin.remote(name)) > self.retries:
            raise _Deadly
        try:
            return work()
        finally:
            ray.get(in_flight.end.remote(name))


class _Deadly(Exception):  # noqa: N818 (nobody but this module sees it)
    """So many processes died of a piece of work that it is not tried again."""


class InFlight:
    """How often each piece of work was begun and has not ended; a Ray actor that outlives its workers."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._times: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """Return how often it was begun before; count it as begun, if it may be that once more."""
        deaths = self._times[name]
        if deaths <= self._retries:
            self._times[name] += 1
        return deaths

    def end(self, name: str) -> None:
        """Forget it: its process has survived it."""
        del self._times[name]


@contextmanager
def attempts(retries: int, engine: EngineConfig) -> Iterator[Attempts]:
    """Yield what workers of the engine, which must run already, try work by."""
    if engine.name == "native":
        yield Attempts(retries)
        return
    import ray

    name = f"in-flight-{uuid4().hex}"  # a handle of it could not be sent by a client of a cluster
    in_flight = ray.remote(num_cpus=0)(InFlight).options(name=name).remote(retries)
    try:
        yield Attempts(retries, name)
    finally:
        ray.kill(in_flight)


def attempt(work: Callable[[], T], retries: int) -> tuple[T | None, str]:
    """What `work` returns and "", or None and the reason that it failed the last time.

    A media file that cannot be used stays so, and is not tried again; a process that died was already.

    Raises:
        Exception: An error of ours, a full disk, a missing module, a GPU that takes no more work.
    """
    reason = ""
    for _ in range(retries + 1):
        try:
            return work(), ""
        except (MediaError, Failed) as error:
            return None, str(error)
        except Exception as error:
            if _meets_the_next_clip(error):
                raise
            reason = _reason(error)  # not the error itself: its traceback would keep the tensors
    return None, reason


def _meets_the_next_clip(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # not imported here: what decodes needs none of it
    is_gpu = torch is not None and isinstance(error, torch.AcceleratorError)
    return is_gpu or isinstance(error, ImportError) or in_plain_words(error) is not None


def _reason(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    kind = type(error).__name__
    return textwrap.shorten(f"{kind}: {first}" if first else kind, _LONGEST, placeholder=" ...")


def _worker() -> str:
    import ray

    return str(ray.get_runtime_context().get_actor_id())  # stays when it is restarted
