"""Batches of a training in order; the next one is drawn while a step runs."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from mobius_pipeline.training.batches import Batch

Draw = Callable[[int], list[Batch]]


class Loader:
    """Returns the batch of each step, and draws the next one in a thread.

    A batch depends only on its step (`training.draws`), so drawing ahead does not change it. Batches are
    drawn on the CPU, so the device never holds two.
    """

    def __init__(self, draw: Draw) -> None:
        """Take batches from `draw`, which must not depend on the state of the training."""
        self._draw = draw
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future[list[Batch]]] | None = None
        self.waited: list[float] = []  # s; wait of each step for its batch

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Draw batches ahead within the block."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as self._thread:
            try:
                yield
            finally:
                self._thread = self._ahead = None

    def take(self, step: int, *, more: bool) -> list[Batch]:
        """Return the parts of a step's batch; with `more`, start drawing the next step's.

        Raises:
            MobiusError: If a clip's latents cannot be read.
        """
        began = perf_counter()
        step_ahead, drawn = self._ahead or (None, None)
        parts = drawn.result() if drawn is not None and step_ahead == step else self._draw(step)
        self.waited.append(perf_counter() - began)
        if more and self._thread is not None:
            self._ahead = step + 1, self._thread.submit(self._draw, step + 1)
        return parts

    def state_dict(self) -> dict[str, Any]:
        """Return the waits under their name in `History`."""
        return {"waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.waited = list(state["waited"])
