"""Compute the hours and the cost of a training from the time of one step on a device."""

from dataclasses import dataclass

from mobius_pipeline.planning.model import Time, TimedOn
from mobius_pipeline.planning.predict import Cost
from mobius_pipeline.planning.roofline import Device, seconds
from mobius_pipeline.runtime.units import GIB

HOUR_S = 3600


@dataclass(frozen=True)
class Timing:
    """Settings to predict the time of trainings on one device.

    Attributes:
        device: Device that runs the training.
        steps: Optimiser steps of serial.
        equal_compute: Whether parallel trains until it has spent serial's FLOPs, as `train.equal_compute`.
        price_per_hour: Price of the device, in any currency; None: no cost.
    """

    device: Device
    steps: int
    equal_compute: bool = False
    price_per_hour: float | None = None

    def of(self, cost: Cost, serial: Cost, mode: str, reserve_gib: float) -> Time:
        """Return the time and the cost of training `mode`, and whether it fits the device.

        Args:
            cost: Cost of the mode's step, with its operations.
            serial: Cost of serial's step, the reference of `equal_compute`.
            mode: The mode.
            reserve_gib: Memory that the device needs in addition to live tensors.
        """
        longer = self.equal_compute and mode != "serial"
        steps = max(self.steps, round(self.steps * serial.flops / cost.flops)) if longer else self.steps
        step_s = seconds(cost.operations, self.device)
        hours = step_s * steps / HOUR_S
        price, memory = self.price_per_hour, self.device.memory_bytes
        return Time(
            step_s=step_s,
            steps=steps,
            hours=hours,
            cost=None if price is None else hours * price,
            fits_device=None if memory is None else cost.peak_bytes <= memory - reserve_gib * GIB,
        )

    @property
    def about(self) -> TimedOn:
        """The device and the settings, for the plan."""
        return TimedOn(**vars(self))


def duration(hours: float) -> str:
    """Format hours as seconds, minutes, hours or days."""
    if hours >= 72:
        return f"{_digits(hours / 24)} days"
    if hours >= 1:
        return f"{_digits(hours)} h"
    return f"{_digits(hours * 60)} min" if hours >= 1 / 30 else f"{_digits(hours * HOUR_S)} s"


def interval(seconds: float) -> str:
    """Format the seconds of a step or a clip."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{_digits(seconds)} s"


def money(amount: float) -> str:
    """Format an amount of money, without a currency."""
    return f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"


def _digits(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 10 else f"{amount:.2f}"
