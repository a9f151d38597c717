"""The whole plan: both modes, every lever, and what is the most that fits a memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mobius_pipeline.planning.levers import LEVERS, MODES, Recipe
from mobius_pipeline.planning.predict import Cost, StepShape, predictor
from mobius_pipeline.planning.report import GIB, plan_report
from mobius_pipeline.planning.search import largest_fit

Predict = Callable[[StepShape], Cost]


def make_plan(
    unet_config: Mapping[str, Any],
    shape: StepShape,
    *,
    memory_gib: tuple[int, ...],
    reserve_gib: float,
    levers: Sequence[str] = tuple(LEVERS),
    largest_in_gib: float | None,
) -> dict[str, Any]:
    """Predict a training step of both modes and of levers.

    Args:
        unet_config: Of a `UNet2DConditionModel` or a `UNet3DConditionModel`.
        shape: Sizes of the step.
        memory_gib: Memories to answer "does it fit" for.
        reserve_gib: Memory that a device needs beside the live tensors.
        levers: Names of `LEVERS`; each takes as long as a mode.
        largest_in_gib: Memory to find the largest batch and frame count for; None: leave that out.

    Raises:
        MobiusError: If the UNet has a part that the video models do not know.
    """
    predictors = {name: _predictor(unet_config, recipe) for name, recipe in MODES.items()}
    costs = {name: predict(shape) for name, predict in predictors.items()}
    more = {name: _predictor(unet_config, LEVERS[name])(shape) for name in levers}
    report = plan_report(costs, shape, memory_gib, reserve_gib, more)
    if largest_in_gib is not None:
        budget = int((largest_in_gib - reserve_gib) * GIB)
        report["largest"] = {
            "memory_gib": largest_in_gib,
            "modes": {
                name: largest(predict, shape, costs[name], budget) for name, predict in predictors.items()
            },
        }
    return report


def largest(predict: Predict, shape: StepShape, cost: Cost, budget: int) -> dict[str, int]:
    """The largest batch of `shape`'s clips, and the longest clips of `shape`'s batch, within `budget` bytes.

    See `largest_fit` for how exact they are; 0 where not even one fits. `cost` is of `shape`.
    """

    def along(axis: str) -> int:
        def peak(count: int) -> int:
            same = count == getattr(shape, axis)
            return (cost if same else predict(replace(shape, **{axis: count}))).peak_bytes

        return largest_fit(peak, budget, first=getattr(shape, axis), floor=cost.static_bytes)

    return {"batch": along("batch"), "frames": along("frames")}


def _predictor(unet_config: Mapping[str, Any], recipe: Recipe) -> Predict:
    return predictor(unet_config, recipe.variant, autocast=recipe.autocast)
