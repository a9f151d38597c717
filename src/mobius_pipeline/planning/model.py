"""A plan as pydantic models; `plan.json` is a serialised `Plan`.

In it, a key without a value is absent, which keeps DVC's table of metrics readable.
"""

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mobius_pipeline.planning.levers import PlannedMode
from mobius_pipeline.planning.roofline import Device
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.document import Document


class _Sparse(Document):
    """A document whose keys without a value are absent from its JSON."""

    @model_serializer(mode="wrap")
    def _with_values(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialized(self).items() if value is not None}


class Time(_Sparse):
    """Time and cost of a training on a device."""

    step_s: float = Field(description="s; time of a step")
    steps: int = Field(description="optimiser steps")
    hours: float = Field(description="h; time of all steps")
    cost: float | None = Field(default=None, description="in the currency of the price; absent: no price")
    fits_device: bool | None = Field(default=None, description="absent: the device's memory is not known")


class StepCost(_Sparse):
    """Cost of a step, and the time of a training of such steps."""

    parameters: int = Field(description="number of parameters, frozen ones included")
    trainable: int = Field(description="number of trained parameters")
    static_bytes: int = Field(description="bytes; weights, their averages and optimiser states")
    peak_bytes: int = Field(description="bytes; peak of live tensors")
    flops: float = Field(description="FLOPs, forward and backward")
    time: Time | None = Field(default=None, description="absent: no device was named")


class LeverCost(StepCost):
    """Cost of a step with a memory lever."""

    activation_bytes: int = Field(description="bytes; activations at the peak")
    smallest_fit_gib: int | None = Field(
        default=None,
        description="GiB; smallest of `plan.memory_gib` that holds the peak and the reserve; absent: none",
    )


class ModeCost(StepCost):
    """Cost of a mode's step."""

    breakdown: dict[str, int] = Field(description="bytes; parts of the peak")
    predicted_peak_gib: float = Field(description="GiB; `peak_bytes`")
    fits_gib: dict[int, bool] = Field(description="whether the peak and the reserve fit, by memory in GiB")


class Ratios(_Sparse):
    """Parallel's cost as a multiple of serial's."""

    peak: float = Field(description="ratio of the peaks of live tensors")
    flops: float = Field(description="ratio of the FLOPs of a step")
    trainable: float = Field(description="ratio of the numbers of trained parameters")
    step_s: float | None = Field(default=None, description="ratio of the times of a step")
    hours: float | None = Field(default=None, description="ratio of the times of all steps")


class TimedOn(_Sparse):
    """The device that times were predicted for, and the settings of the prediction."""

    device: Device
    steps: int = Field(description="optimiser steps of serial")
    equal_compute: bool = Field(description="whether parallel trains until it has spent serial's FLOPs")
    price_per_hour: float | None = Field(default=None, description="of the device; absent: no cost")


class Sizes(Document):
    """The largest sizes that fit, each with the other as planned; 0: not even one."""

    batch: int = Field(description="clips per step")
    frames: int = Field(description="frames per clip")


class Largest(Document):
    """The largest sizes that fit a memory, by mode."""

    memory_gib: float = Field(description="GiB")
    modes: dict[PlannedMode, Sizes]


class Plan(_Sparse):
    """The predicted cost of a training step of both modes and of levers."""

    step: StepShape
    reserve_gib: float = Field(description="GiB that a device needs in addition to live tensors")
    modes: dict[PlannedMode, ModeCost]
    parallel_over_serial: Ratios
    levers: dict[str, LeverCost]
    timing: TimedOn | None = None
    largest: Largest | None = None
