"""What the steps of a training cost: their seconds, and once their memory and FLOPs."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import Tensor

from mobius_pipeline.training.meters import StepTimer, count_flops, measure_step

log = logging.getLogger(__name__)

R = TypeVar("R")


class StepMeter:
    """Times every step but one, whose memory it measures instead.

    Attributes:
        timer: Seconds of the steps that were timed.
        memory: The peak in bytes and its parts, measured on the first of `devices`.
        flops: Of a step.
        devices: Those that the training ran on, in turn.
    """

    def __init__(self, *, device: str, warmup: int, measured_step: int) -> None:
        """Leave the first `warmup` steps out of the median; measure the memory of `measured_step`."""
        self._device, self._measured_step = device, measured_step
        self.timer = StepTimer(warmup=warmup, device=torch.device(device))
        self.memory: dict[str, Any] = {}
        self.flops = 0.0
        self.devices: list[str] = []

    def begin(self) -> None:
        """Note the device, and warn where the figures will be of several."""
        if self.devices and self.devices[-1] != self._device:
            log.warning(
                "Begun on %s, going on on %s: step times are of both, the peak memory is of %s.",
                self.devices[-1],
                self._device,
                self.devices[0],
            )
        if self.devices[-1:] != [self._device]:
            self.devices.append(self._device)

    def count(self, part: Callable[[], object], parts: int) -> None:
        """Count the FLOPs of a step that does the work of `part` so many times."""
        self.flops = count_flops(part) * parts

    def measure(
        self,
        step: int,
        work: Callable[[], R],
        *,
        weights: Iterable[Tensor],
        optimizer: torch.optim.Optimizer,
        inputs: Iterable[Tensor],
    ) -> R:
        """Do the work of a step, timed or under the memory meter; it trains the same either way.

        Args:
            step: Its number, from 0.
            work: The optimiser step.
            weights: Counted as weights: parameters and their averages.
            optimizer: Whose states are counted.
            inputs: Counted as inputs: the step's batch.
        """
        if step != self._measured_step:
            with self.timer:
                return work()
        results: list[R] = []
        memory = measure_step(
            lambda: results.append(work()), weights=[*weights], optimizer=optimizer, inputs=[*inputs]
        )
        self.memory = asdict(memory)
        return results[0]

    def state_dict(self) -> dict[str, Any]:
        """What was measured, as JSON takes it."""
        return {
            "seconds": self.timer.seconds,
            "memory": self.memory,
            "flops": self.flops,
            "devices": self.devices,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.timer.seconds = list(state["seconds"])
        self.memory, self.flops, self.devices = state["memory"], state["flops"], list(state["devices"])
