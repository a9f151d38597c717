"""The whole plan: both modes, every lever, and what is the most that fits a memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from mobius_pipeline.planning.calibrate import training_device
from mobius_pipeline.planning.devices import Datasheet
from mobius_pipeline.planning.levers import LEVERS, Models, Recipe
from mobius_pipeline.planning.predict import Cost, StepShape, predictor
from mobius_pipeline.planning.report import GIB, plan_report
from mobius_pipeline.planning.search import largest_fit
from mobius_pipeline.planning.timing import Timing
from mobius_pipeline.runtime.progress import track

Predict = Callable[[StepShape], Cost]


@dataclass(frozen=True)
class Timed:
    """What `Timing` needs; `device` and `here` are as `calibrate.training_device` takes them."""

    device: str | Datasheet
    steps: int
    equal_compute: bool = False
    price_per_hour: float | None = None
    here: str = "cpu"


@dataclass(frozen=True)
class Memories:
    """The devices' memories that a plan answers for.

    Attributes:
        gib: Those to answer "does it fit" for.
        reserve_gib: What a device needs beside the live tensors.
        largest_in_gib: The one to find the largest batch and frame count for; None: leave that out.
    """

    gib: tuple[int, ...]
    reserve_gib: float
    largest_in_gib: float | None

    @property
    def budget(self) -> int | None:
        """Bytes of live tensors for the largest batch and frame count."""
        if self.largest_in_gib is None:
            return None
        return int((self.largest_in_gib - self.reserve_gib) * GIB)


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
    memories: Memories,
    *,
    levers: Sequence[str] = tuple(LEVERS),
    timed: Timed | None = None,
    autocast: bool = False,
    processes: int = 1,
) -> dict[str, Any]:
    """Predict a training step of both modes and of levers.

    Args:
        unet_config: Of a `UNet2DConditionModel` or a `UNet3DConditionModel`.
        models: What each mode trains.
        shape: Sizes of the step.
        memories: Of the devices.
        levers: Names of `LEVERS`; each takes as long as a mode.
        timed: On which device to predict hours and cost of how many steps; None: leave that out.
        autocast: Run the forward pass of both modes, and of every lever, in bfloat16.
        processes: How many predict at a time. A new one first takes seconds to load torch: worth it for a
            large model.

    Raises:
        MobiusError: If the UNet has a part that the video models do not know, or a lever cannot work.
    """
    recipes = [Recipe(model, autocast) for model in models.values()]
    more_recipes = [LEVERS[name].applied(models, autocast) for name in levers]
    timing = None
    if timed is not None:
        timing = _timing(timed, unet_config, (*recipes, *more_recipes), shape)
    questions = [Question(unet_config, recipe, shape, memories.budget) for recipe in recipes]
    questions += [Question(unet_config, recipe, shape) for recipe in more_recipes]
    with _each(processes) as each:
        answers = list(track(each(answer, questions), "plan", len(questions), "models"))
    modes = dict(zip(models, answers, strict=False))  # the levers' answers follow
    costs = {str(name): mode.cost for name, mode in modes.items()}
    more = {name: lever.cost for name, lever in zip(levers, answers[len(models) :], strict=True)}
    report = plan_report(costs, shape, memories.gib, memories.reserve_gib, more, timing)
    if memories.largest_in_gib is not None:
        largest = {name: mode.largest for name, mode in modes.items()}
        report["largest"] = {"memory_gib": memories.largest_in_gib, "modes": largest}
    return report


def _timing(
    timed: Timed, unet_config: Mapping[str, Any], recipes: Iterable[Recipe], shape: StepShape
) -> Timing:
    device = training_device(timed.device, unet_config, recipes, shape, timed.here)
    return Timing(device, timed.steps, timed.equal_compute, timed.price_per_hour)


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

    batch = along("batch")
    return {"batch": batch - batch % shape.parts, "frames": along("frames")}
