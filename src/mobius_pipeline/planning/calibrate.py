"""Measure the rates that this machine's device attains.

Ten training steps of a model with tiny tensors give the time to issue an operation from Python. Then the
heaviest operations of the planned work are timed one by one, on tensors of their sizes. This needs memory
for a few operations only, so a model that does not fit can be planned, too.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from mobius_pipeline.models.factory import build_model
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.devices import HERE, ON_H200, Datasheet, from_datasheet, known_device
from mobius_pipeline.planning.levers import Recipe
from mobius_pipeline.planning.operations import Operations
from mobius_pipeline.planning.predict import model_inputs, predictor, training_step
from mobius_pipeline.planning.roofline import Device, Kind, Operation
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.devices import usable
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.meters import StepTimer

STEPS, WARMUP = 10, 3  # of the tiny model
HEAVIEST = 12  # operations of each kind that are timed
REPEATS = 10
COLD_BYTES = 2**28  # of all copies of an operation's tensors together: larger than any cache
LARGEST_BYTES = 2**31  # tensors of an operation; larger ones are not timed

_TINY: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 2,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
_TINY_SHAPE = StepShape(batch=1, frames=2, height=4, width=4, tokens=2)


@dataclass(frozen=True)
class _Like:
    """A tensor's shape, strides and type, without its elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    def made(self, device: torch.device) -> Tensor:
        tensor = torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)
        return tensor.normal_() if self.dtype.is_floating_point else tensor.zero_()


@dataclass
class Call:
    """An operation with its arguments, in which tensors are only shapes.

    Attributes:
        func: The torch operator.
        given: Its arguments.
        operation: Its kind, FLOPs and bytes.
        times: How often the work calls it.
    """

    func: Any
    given: Any
    operation: Operation
    times: int = 0

    def on(self, device: torch.device) -> Callable[[], object]:
        """Return the call on newly made tensors."""
        given = tree_map_only(torch.device, lambda _: device, self.given)
        args, kwargs = tree_map_only(_Like, lambda like: like.made(device), given)
        return lambda: self.func(*args, **kwargs)


class Calls(Operations):  # type: ignore[no-untyped-call]
    """List operations like `Operations`, and keep the arguments of each distinct one."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Any, Call] = {}

    @property
    def distinct(self) -> list[Call]:
        """Each distinct operation, with the number of its calls."""
        return list(self._calls.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and list the call."""
        before = len(self.found)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if len(self.found) > before:
            given = tree_map_only(Tensor, _Like.of, (args, kwargs or {}))
            call = Call(func, given, self.found[-1])
            self._calls.setdefault((func, *tree_leaves(given)), call).times += 1
        return result


def measured_device(calls: Sequence[Call], device: str, *, issue_s: float | None = None) -> Device:
    """Measure the rates that `device` attains on the heaviest of `calls`.

    Args:
        calls: Operations of the planned work.
        device: Name of the device in torch: cpu, cuda, cuda:1.
        issue_s: Seconds to issue an operation; None: measure it with ten steps of a tiny model.

    Raises:
        MobiusError: If torch cannot use the device, or every operation of a kind is too large to be timed.
    """
    place = torch.device(device)
    issue = issue_seconds(place) if issue_s is None else issue_s
    float32 = {kind: _rate(calls, kind, False, place) for kind in ("product", "convolution")}
    half = _rate([call for call in calls if call.operation.half], None, True, place)
    product = float32["product"] or float32["convolution"] or half
    assert product is not None, "there is no work without products"
    return Device(
        name=_name(place),
        product=product,
        convolution=float32["convolution"] or product,
        half=half or product,
        bandwidth=_rate(calls, "movement", None, place) or float("inf"),
        issue_s=issue,
        issue_cast_s=issue * ON_H200.issue_cast_s / ON_H200.issue_s,
        least_s=0.0,
        queued=place.type == "cuda",
        memory_bytes=torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else None,
        basis=f"{STEPS} steps of a tiny model and the heaviest operations, measured here",
    )


def training_device(
    choice: str | Datasheet,
    unet_config: Mapping[str, Any],
    recipes: Iterable[Recipe],
    shape: StepShape,
    here: str,
) -> Device:
    """Return the device that a user chose to plan a training for.

    Args:
        choice: A name of the table, a datasheet's figures, or "here".
        unet_config: Configuration of the base's UNet.
        recipes: The planned recipes; "here" times the operations of the first two in float32 and of the first
            in bfloat16.
        shape: Sizes of the step.
        here: Name of this machine's device in torch.

    Raises:
        MobiusError: If the device is not known, or cannot be used.
    """

    def work() -> Sequence[Call]:
        full: list[Recipe] = []
        half: list[Recipe] = []
        for recipe in recipes:
            (half if recipe.autocast or recipe.variant.spatial_dtype != "float32" else full).append(recipe)
        calls = Calls()
        for recipe in (*full[:2], *half[:1]):
            predictor(unet_config, recipe.variant, autocast=recipe.autocast)(shape, calls)
        return calls.distinct

    return chosen_device(choice, work, here)


def chosen_device(choice: str | Datasheet, work: Callable[[], Sequence[Call]], here: str) -> Device:
    """Return the device for `choice` (see `training_device`); `work` lists operations to time for "here"."""
    if not isinstance(choice, str):
        return from_datasheet(choice)
    if choice != HERE:
        return known_device(choice)
    usable(here)
    return measured_device(work(), here)


def issue_seconds(device: torch.device) -> float:
    """Return the seconds per operation in a training step with tiny tensors."""
    model = build_model(Variant("serial"), UNet2DConditionModel(**_TINY), seed=0).to(device)
    step = training_step(model, [one.to(device) for one in model_inputs(_TINY, _TINY_SHAPE)])
    step.run()
    with Operations() as operations:
        step.run()
    timer = StepTimer(WARMUP, device)
    for _ in range(WARMUP + STEPS):
        with timer:
            step.run()
    return timer.median_s / len(operations.found)


def _rate(calls: Iterable[Call], kind: Kind | None, half: bool | None, device: torch.device) -> float | None:
    """Return the FLOP/s, for movements the bytes/s, of the heaviest calls of a kind; None without calls."""

    def work(call: Call) -> int:
        return call.operation.flops or call.operation.nbytes

    of_kind = [
        call
        for call in calls
        if (call.operation.kind == kind if kind else call.operation.flops)
        and half in (None, call.operation.half)
    ]
    if not of_kind:
        return None
    usable = [call for call in of_kind if call.operation.nbytes <= LARGEST_BYTES and _runs_on(call, device)]
    heaviest = sorted(usable, key=lambda call: call.times * work(call), reverse=True)[:HEAVIEST]
    if not heaviest:
        raise MobiusError(
            f"None of the {kind or 'bfloat16'} operations can be timed on {device}: each takes more than "
            f"{LARGEST_BYTES / 2**30:g} GiB. Plan for smaller clips, or name a device."
        )
    spent = sum(call.times * timed(call, device) for call in heaviest)
    return sum(call.times * work(call) for call in heaviest) / spent


def _runs_on(call: Call, device: torch.device) -> bool:
    """Whether a call runs on the device: calls are listed on a CPU, whose attention operators CUDA lacks."""
    return device.type == "cpu" or "_for_cpu" not in str(call.func)


def timed(call: Call, device: torch.device) -> float:
    """Return the median seconds of a call on tensors that are not in a cache."""
    nbytes = max(call.operation.nbytes, 1)
    runs = [call.on(device) for _ in range(max(1, min(REPEATS, COLD_BYTES // nbytes)))]
    with torch.no_grad():
        runs[0]()
        return statistics.median(_seconds(runs[turn % len(runs)], device) for turn in range(REPEATS))


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"this CPU, {torch.get_num_threads()} threads"
