"""Keep the metrics of a training, and report them."""

from collections.abc import Callable, Mapping
from typing import Any

_KEPT_ELSEWHERE = ("loss", "heldout_loss", "learning_rate")  # stored with seconds, or a function of the step


class Recorder:
    """Metrics of a training's steps and evaluations.

    Attributes:
        losses: Rows of (step, training loss, seconds of training so far).
        further: Rows of (step, value) of every other metric, by its name.
    """

    def __init__(self, report: Callable[[dict[str, float], int], None]) -> None:
        """Call `report` with the metrics of each step and evaluation."""
        self._report = report
        self.losses: list[tuple[int, float, float]] = []
        self.further: dict[str, list[tuple[int, float]]] = {}

    def loss(self, step: int, loss: float, training_s: float) -> None:
        """Keep the training loss of a step, after `training_s` seconds of training."""
        self.losses.append((step, loss, training_s))

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Report metrics, and keep those that are kept nowhere else."""
        for name, value in metrics.items():
            if name not in _KEPT_ELSEWHERE:
                self.further.setdefault(name, []).append((step, value))
        self._report(metrics, step)

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics under their names in `History`."""
        return {"loss": self.losses, "further": self.further}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.losses, self.further = list(state["loss"]), dict(state["further"])
