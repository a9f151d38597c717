"""Hours and money of a training, from the time of one step on a device."""

from dataclasses import asdict, dataclass
from typing import Any

from mobius_pipeline.planning.predict import Cost
from mobius_pipeline.planning.roofline import Device, seconds

HOUR_S = 3600


@dataclass(frozen=True)
class Timing:
    """What a training takes on one device.

    Attributes:
        device: What it runs on.
        steps: Optimiser steps of serial.
        equal_compute: Whether parallel goes on until it has spent serial's FLOPs, as `train.equal_compute`.
        price_per_hour: Of the device; None: no cost. The currency is the user's own.
    """

    device: Device
    steps: int
    equal_compute: bool = False
    price_per_hour: float | None = None

    def of(self, cost: Cost, serial: Cost, mode: str) -> dict[str, Any]:
        """Seconds of a step, and steps, hours and cost of a training of `mode`; `serial` is the reference."""
        longer = self.equal_compute and mode != "serial"
        steps = max(self.steps, round(self.steps * serial.flops / cost.flops)) if longer else self.steps
        step_s = seconds(cost.operations, self.device)
        hours = step_s * steps / HOUR_S
        price = self.price_per_hour
        return {
            "step_s": step_s,
            "steps": steps,
            "hours": hours,
            "cost": None if price is None else hours * price,
        }

    @property
    def about(self) -> dict[str, Any]:
        """What the figures rest on, for the report."""
        return {
            "device": asdict(self.device),
            "steps": self.steps,
            "equal_compute": self.equal_compute,
            "price_per_hour": self.price_per_hour,
        }


def duration(hours: float) -> str:
    """Hours for people: seconds, minutes, hours or days."""
    if hours >= 72:
        return f"{_digits(hours / 24)} days"
    if hours >= 1:
        return f"{_digits(hours)} h"
    return f"{_digits(hours * 60)} min" if hours >= 1 / 30 else f"{_digits(hours * HOUR_S)} s"


def interval(seconds: float) -> str:
    """The seconds of one step, for people."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{_digits(seconds)} s"


def money(amount: float) -> str:
    """An amount in the currency of the price that was given."""
    return f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"


def _digits(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 10 else f"{amount:.2f}"
