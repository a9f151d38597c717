"""Time the steps of several trainings in turns, because a machine's speed drifts between trainings."""

import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.columns import own_step_time
from mobius_pipeline.comparison.model import StepTime, StepTimes
from mobius_pipeline.comparison.summary import listed
from mobius_pipeline.comparison.trainings import Columns
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.config import first_reason
from mobius_pipeline.runtime.progress import stage
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.meters import StepTimer
from mobius_pipeline.training.train_mode import build_trainer
from mobius_pipeline.training.trainer import Trainer

log = logging.getLogger(__name__)

WARMUP = 2  # untimed steps: allocation, kernel choice, optimiser states
SLOWER = 3.0  # allowed factor over the training's own step time; drift is smaller, other work slows down more
SCATTER = 0.5  # allowed interquartile range over the median; 0.02 to 0.2 on a quiet machine


def time_columns(columns: Columns, store: LatentsStore, base: BaseModel, steps: int | None) -> StepTimes:
    """Time the steps of the first training of each column in turns, as `time_in_turns` does."""
    descriptions = {label: records[0].description for label, records in columns.items()}
    own_s = {label: own_step_time(records).median_s for label, records in columns.items()}
    return time_in_turns(descriptions, own_s, store, base, steps)


def time_in_turns(
    descriptions: Mapping[str, Description],
    own_s: Mapping[str, float],
    store: LatentsStore,
    base: BaseModel,
    steps: int | None,
) -> StepTimes:
    """Time the steps of trainings in turns, if this is possible here and not disturbed by other work.

    A failure becomes a note instead of an error, because the trainings themselves have succeeded.

    Args:
        descriptions: The trainings.
        own_s: Median step time (s) that each training measured itself.
        store: The latents.
        base: The base model.
        steps: Timed steps of each training; None: measure nothing.

    Returns:
        The times of all trainings, or none and a note with the reason.
    """
    try:
        why = _obstacle(descriptions, store, base, steps)
        timers = {} if why or steps is None else paired_step_times(descriptions, store, base, steps)
    except Exception as error:  # out of memory, a driver's or a library's error
        log.warning("Timing the trainings in turns failed.", exc_info=True)
        timers, why = {}, f"timing them in turns failed ({(str(error) or repr(error)).splitlines()[0]})"
    if busy := [label for label, timer in timers.items() if spoiled(timer, own_s[label])]:
        timers = {}
        why = (
            f"the machine was busy when they were timed in turns: steps of {listed(busy)} took more than "
            f"{SLOWER:g} times as long as in training, or their quartiles were over {SCATTER:.0%} of the "
            "median apart"
        )
    if why:
        note = f"Step times are those of each training itself, because {why}."
        log.warning(note)
        return StepTimes(columns={}, note=note)
    times = {label: StepTime(median_s=timer.median_s, iqr_s=timer.iqr_s) for label, timer in timers.items()}
    return StepTimes(columns=times, note="")


def spoiled(timer: StepTimer, own_s: float) -> bool:
    """Whether other work distorted the step times, compared with `own_s`, the median (s) in training."""
    lower, upper = timer.iqr_s
    return timer.median_s > SLOWER * own_s or upper - lower > SCATTER * timer.median_s


def _obstacle(
    descriptions: Mapping[str, Description], store: LatentsStore, base: BaseModel, steps: int | None
) -> str:
    """Return why the trainings cannot run here for a few steps; "" if they can."""
    if steps is None:
        return "compare.paired_steps is null"
    here = {"base": base.digest, "data": store.digest}
    for label, one in descriptions.items():
        for part, found in here.items():
            if getattr(one.fingerprints, part) != found:
                return f"{label} was trained with another {part} than the one here"
        try:
            Variant(**one.model)
            in_one_process(one)
        except ValidationError as error:  # an option of another version, or a missing device
            return f"{label} cannot be run here ({first_reason(error)})"
    return ""


def paired_step_times(
    descriptions: Mapping[str, Description], store: LatentsStore, base: BaseModel, steps: int
) -> dict[str, StepTimer]:
    """Run a few first steps of each training, one step of each in turn, and time every step.

    On an accelerator, only the training whose step runs is on the device; the others are in host memory.

    Args:
        descriptions: The trainings.
        store: The latents.
        base: The base model.
        steps: Timed steps of each training, after the warm-up.
    """
    trainers, timers = {}, {}
    for name, one in descriptions.items():
        state = Path(name)  # only for error messages: these steps save nothing
        train = in_one_process(one)
        trainers[name] = build_trainer(store, base, Variant(**one.model), train, state, Callbacks())
        timers[name] = StepTimer(warmup=WARMUP, device=trainers[name].meter.timer.device)
        move(trainers[name], "cpu")
    with stage("compare: step times", WARMUP + steps, "rounds") as bar:
        for step in range(WARMUP + steps):
            for name, trainer in trainers.items():
                move(trainer, trainer.config.device)
                parts = trainer.batch(step)
                with timers[name]:
                    trainer.train_step(parts)
                move(trainer, "cpu")
            bar.advance()
    return timers


def move(trainer: Trainer, device: str) -> None:
    """Move a training's tensors to `device`: weights, their EMA and the optimiser's moments."""
    trainer.model.to(device)
    trainer.optimization.ema.to(device)
    for state in trainer.optimization.optimizer.state.values():
        # AdamW's step count stays where it is: on the device if fused, otherwise on the CPU.
        state.update({key: value.to(device) for key, value in state.items() if key != "step"})


def in_one_process(trained: Description) -> TrainConfig:
    """Return the settings of a training for one process, with more gradient accumulation instead."""
    here = {"rendezvous": None, "previews": None, "on_mismatch": "refuse"}
    config = TrainConfig(**trained.train | trained.runtime | here | {"num_processes": trained.processes})
    parts = config.gradient_accumulation_steps * trained.processes
    return config.model_copy(update={"num_processes": 1, "gradient_accumulation_steps": parts})
