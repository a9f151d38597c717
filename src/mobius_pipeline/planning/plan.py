"""Make a plan: predict both modes, every lever, and the largest batch and frame count for a memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from mobius_pipeline.planning.calibrate import training_device
from mobius_pipeline.planning.devices import Datasheet
from mobius_pipeline.planning.levers import LEVERS, Models, Recipe
from mobius_pipeline.planning.model import Largest, Plan, Sizes
from mobius_pipeline.planning.predict import Cost, predictor
from mobius_pipeline.planning.report import build_plan
from mobius_pipeline.planning.search import largest_fit
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.planning.timing import Timing
from mobius_pipeline.runtime.progress import track
from mobius_pipeline.runtime.units import GIB

Predict = Callable[[StepShape], Cost]


@dataclass(frozen=True)
class Timed:
    """Settings of `Timing`; `device` and `here` are arguments of `calibrate.training_device`."""

    device: str | Datasheet
    steps: int
    equal_compute: bool = False
    price_per_hour: float | None = None
    here: str = "cpu"


@dataclass(frozen=True)
class Memories:
    """Memory sizes of devices to plan for.

    Attributes:
        gib: Sizes to check whether a step fits.
        reserve_gib: Memory that a device needs in addition to live tensors.
        largest_in_gib: Size to find the largest batch and frame count for; None: do not search.
    """

    gib: tuple[int, ...]
    reserve_gib: float
    largest_in_gib: float | None

    @property
    def budget(self) -> int | None:
        """Bytes available for live tensors in the search for the largest sizes; None: do not search."""
        if self.largest_in_gib is None:
            return None
        return int((self.largest_in_gib - self.reserve_gib) * GIB)


@dataclass(frozen=True)
class Question:
    """A prediction to make: a recipe's step and, given a `budget` in bytes, the largest sizes within it."""

    unet_config: Mapping[str, Any]
    recipe: Recipe
    shape: StepShape
    budget: int | None = None


@dataclass(frozen=True)
class Answer:
    """A step's cost, and the largest batch and frame count; None without a budget."""

    cost: Cost
    largest: Sizes | None


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
) -> Plan:
    """Predict a training step of both modes and of levers.

    Args:
        unet_config: Configuration of a `UNet2DConditionModel` or a `UNet3DConditionModel`.
        models: Model that each mode trains.
        shape: Sizes of the step.
        memories: Memory sizes of devices.
        levers: Names of `LEVERS`; each takes as long to predict as a mode.
        timed: Device and number of steps to predict hours and cost for; None: do not predict them.
        autocast: Run the forward pass of both modes, and of every lever, in bfloat16.
        processes: Number of processes that predict in parallel. Each takes seconds to load torch, so more
            than one pays off only for large models.

    Raises:
        MobiusError: If the UNet has a part that the video models do not support, or a lever does not work
            with its mode's model.
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
    costs = {name: mode.cost for name, mode in modes.items()}
    more = {name: lever.cost for name, lever in zip(levers, answers[len(models) :], strict=True)}
    most = None
    if memories.largest_in_gib is not None:
        sizes = {name: mode.largest for name, mode in modes.items()}
        most = Largest(memory_gib=memories.largest_in_gib, modes=sizes)
    return build_plan(costs, shape, memories.gib, memories.reserve_gib, more, timing, most)


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
    # Spawned, because torch's threads do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool.map


def answer(question: Question) -> Answer:
    """Build the model and predict its step.

    Raises:
        MobiusError: If the UNet has a part that the video models do not support.
    """
    recipe, shape = question.recipe, question.shape
    predict = predictor(question.unet_config, recipe.variant, autocast=recipe.autocast)
    cost = predict(shape)
    return Answer(cost, None if question.budget is None else largest(predict, shape, cost, question.budget))


def largest(predict: Predict, shape: StepShape, cost: Cost, budget: int) -> Sizes:
    """Return the largest batch at `shape`'s frame count, and the largest frame count at `shape`'s batch.

    Both fit into `budget` bytes; 0 if not even one clip or frame does. `largest_fit` explains how exact they
    are. `cost` is the cost of `shape`.
    """

    def along(axis: str) -> int:
        def peak(count: int) -> int:
            same = count == getattr(shape, axis)
            return (cost if same else predict(replace(shape, **{axis: count}))).peak_bytes

        return largest_fit(peak, budget, first=getattr(shape, axis), floor=cost.static_bytes)

    batch = along("batch")
    return Sizes(batch=batch - batch % shape.parts, frames=along("frames"))
