"""The whole plan: both modes, every lever, and what is the most that fits a memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from mobius_pipeline.planning.levers import LEVERS, Models, Recipe
from mobius_pipeline.planning.predict import Cost, StepShape, predictor
from mobius_pipeline.planning.report import GIB, plan_report
from mobius_pipeline.planning.search import largest_fit
from mobius_pipeline.runtime.progress import track

Predict = Callable[[StepShape], Cost]


@dataclass(frozen=True)
class Question:
    """What to predict: a recipe's step, and if there is a `budget` of bytes, the most that fits it."""

    unet_config: Mapping[str, Any]
    recipe: Recipe
    shape: StepShape
    budget: int | None = None


@dataclass(frozen=True)
class Answer:
    """A step's cost, and the largest batch and frame count where they were asked for."""

    cost: Cost
    largest: dict[str, int] | None


def make_plan(
    unet_config: Mapping[str, Any],
    models: Models,
    shape: StepShape,
    *,
    memory_gib: tuple[int, ...],
    reserve_gib: float,
    levers: Sequence[str] = tuple(LEVERS),
    largest_in_gib: float | None,
    processes: int = 1,
) -> dict[str, Any]:
    """Predict a training step of both modes and of levers.

    Args:
        unet_config: Of a `UNet2DConditionModel` or a `UNet3DConditionModel`.
        models: What each mode trains.
        shape: Sizes of the step.
        memory_gib: Memories to answer "does it fit" for.
        reserve_gib: Memory that a device needs beside the live tensors.
        levers: Names of `LEVERS`; each takes as long as a mode.
        largest_in_gib: Memory to find the largest batch and frame count for; None: leave that out.
        processes: How many predict at a time. A new one first takes seconds to load torch: worth it for a
            large model.

    Raises:
        MobiusError: If the UNet has a part that the video models do not know, or a lever cannot work.
    """
    budget = None if largest_in_gib is None else int((largest_in_gib - reserve_gib) * GIB)
    questions = [Question(unet_config, Recipe(model), shape, budget) for model in models.values()]
    questions += [Question(unet_config, LEVERS[name].applied(models), shape) for name in levers]
    with _each(processes) as each:
        answers = list(track(each(answer, questions), "plan", len(questions), "models"))
    modes = dict(zip(models, answers, strict=False))  # the levers' answers follow
    more = dict(zip(levers, answers[len(models) :], strict=True))
    report = plan_report(
        {name: mode.cost for name, mode in modes.items()},
        shape,
        memory_gib,
        reserve_gib,
        {name: lever.cost for name, lever in more.items()},
    )
    if largest_in_gib is not None:
        largest = {name: mode.largest for name, mode in modes.items()}
        report["largest"] = {"memory_gib": largest_in_gib, "modes": largest}
    return report


@contextmanager
def _each(processes: int) -> Iterator[Callable[..., Iterator[Answer]]]:
    if processes == 1:
        yield map
        return
    # Not forked: torch's threads do not survive that.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool.map


def answer(question: Question) -> Answer:
    """Build the model and predict.

    Raises:
        MobiusError: If the UNet has a part that the video models do not know.
    """
    recipe, shape = question.recipe, question.shape
    predict = predictor(question.unet_config, recipe.variant, autocast=recipe.autocast)
    cost = predict(shape)
    return Answer(cost, None if question.budget is None else largest(predict, shape, cost, question.budget))


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
