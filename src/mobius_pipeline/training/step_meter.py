"""Costs of a training's steps: seconds of each, and once their memory and FLOPs."""

import logging
from collections.abc import Callable, Iterable, Mapping
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
        timer: Seconds of the timed steps.
        memory: Peak memory in bytes and its breakdown, measured on the first of `devices`.
        flops: FLOPs of one step.
        devices: Devices that the training ran on, in order.
    """

    def __init__(self, *, device: str, warmup: int, measured_step: int) -> None:
        """Exclude the first `warmup` steps from the median; measure the memory of `measured_step`."""
        self._device, self._measured_step = device, measured_step
        self.timer = StepTimer(warmup=warmup, device=torch.device(device))
        self.memory: dict[str, Any] = {}
        self.flops = 0.0
        self.devices: list[str] = []

    def begin(self) -> None:
        """Record the device, and warn if the training started on another one."""
        if self.devices and self.devices[-1] != self._device:
            log.warning(
                "Started on %s, resumed on %s: step times cover both devices, peak memory is from %s.",
                self.devices[-1],
                self._device,
                self.devices[0],
            )
        if self.devices[-1:] != [self._device]:
            self.devices.append(self._device)

    def count(self, part: Callable[[], object], parts: int) -> None:
        """Count the FLOPs of a step that consists of `parts` times the work of `part`."""
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
        """Run a step, timed or under the memory meter; both train the same.

        Args:
            step: Number of the step, from 0.
            work: Runs the optimiser step.
            weights: Parameters and their averages, counted as "weights".
            optimizer: Optimiser whose states are counted.
            inputs: The step's batch, counted as "other".
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
        """Return the measurements under their names in `History`."""
        return {
            "seconds": self.timer.seconds,
            "memory": self.memory,
            "flops": self.flops,
            "devices": self.devices,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.timer.seconds = list(state["seconds"])
        self.memory, self.flops, self.devices = state["memory"], state["flops"], list(state["devices"])
