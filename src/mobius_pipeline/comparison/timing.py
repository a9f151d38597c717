"""Step times of several trainings in one run: a machine's speed drifts from one training to the next."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mobius_pipeline.base_model.load import base_fingerprint
from mobius_pipeline.comparison.columns import own_step_time
from mobius_pipeline.comparison.model import StepTime, StepTimes
from mobius_pipeline.comparison.summary import listed
from mobius_pipeline.comparison.trainings import Columns
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.progress import stage
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.meters import StepTimer
from mobius_pipeline.training.train_mode import build_trainer
from mobius_pipeline.training.trainer import Trainer

log = logging.getLogger(__name__)

WARMUP = 2  # steps: allocation, kernel choice, the optimiser's states
SLOWER = 3.0  # times a training's own step: a speed drifts by less, beside other work it falls by more
SCATTER = 0.5  # of the median, between the quartiles; on a quiet machine 0.02 to 0.2


def time_columns(columns: Columns, store: LatentsStore, base: Path, steps: int | None) -> StepTimes:
    """Time the steps of the first training of each column in turns, as `time_in_turns` does."""
    configs = {label: records[0].config for label, records in columns.items()}
    own_s = {label: own_step_time(records).median_s for label, records in columns.items()}
    return time_in_turns(configs, own_s, store, base, steps)


def time_in_turns(
    configs: Mapping[str, Mapping[str, Any]],
    own_s: Mapping[str, float],
    store: LatentsStore,
    base: Path,
    steps: int | None,
) -> StepTimes:
    """Time the steps of trainings in turns, if that can be done here and gives figures to rely on.

    Two trainings have succeeded by now: whatever goes wrong here becomes a note and not an error.

    Args:
        configs: Each training's `training.json`.
        own_s: The median step time that each measured by itself, in seconds.
        store: The latents.
        base: The base model.
        steps: Timed steps of each; None: none.

    Returns:
        The times of each, or of none and a sentence that says why.
    """
    try:
        why = _obstacle(configs, store, base, steps)
        timers = {} if why or steps is None else paired_step_times(configs, store, base, steps)
    except Exception as error:  # out of memory, a driver, a library: any of them
        log.warning("Timing the trainings in turns failed.", exc_info=True)
        timers, why = {}, f"timing them in turns failed ({(str(error) or repr(error)).splitlines()[0]})"
    if busy := [label for label, timer in timers.items() if spoiled(timer, own_s[label])]:
        timers = {}
        why = (
            f"the machine was busy while they were timed in turns: steps of {listed(busy)} were more than "
            f"{SLOWER:g} times as slow as in training, or scattered by over {SCATTER:.0%} of their median"
        )
    if why:
        note = f"Step times were measured in each training on its own, since {why}."
        log.warning(note)
        return StepTimes(columns={}, note=note)
    times = {label: StepTime(median_s=timer.median_s, iqr_s=timer.iqr_s) for label, timer in timers.items()}
    return StepTimes(columns=times, note="")


def spoiled(timer: StepTimer, own_s: float) -> bool:
    """Whether other work on the machine decided on step times, beside the median of the training itself."""
    lower, upper = timer.iqr_s
    return timer.median_s > SLOWER * own_s or upper - lower > SCATTER * timer.median_s


def _obstacle(
    configs: Mapping[str, Mapping[str, Any]], store: LatentsStore, base: Path, steps: int | None
) -> str:
    """Why trainings cannot be run again here for a few steps; "" if they can."""
    if steps is None:
        return "compare.paired_steps is null"
    here = {"base": base_fingerprint(base), "data": store.digest}
    for label, config in configs.items():
        for part, found in here.items():
            if config["fingerprints"][part] != found:
                return f"{label} was trained with another {part} than is here"
        try:
            ModelConfig(**config["model"])
            in_one_process(config)
        except ValidationError as error:  # of an option of another version, or a device
            first = error.errors()[0]
            said = first["msg"].removeprefix("Value error, ")
            place = ".".join(map(str, first["loc"]))
            return f"{label} cannot be run here ({said if said.startswith(place) else f'{place}: {said}'})"
    return ""


def paired_step_times(
    configs: Mapping[str, Mapping[str, Any]], store: LatentsStore, base: Path, steps: int
) -> dict[str, StepTimer]:
    """Train for a few steps from the start, in turns, and time every step.

    On an accelerator one training at a time is resident; the others wait in the host's memory.

    Args:
        configs: Each training's `training.json`.
        store: The latents.
        base: The base model.
        steps: Timed steps of each, after the warm-up.
    """
    trainers, timers = {}, {}
    for name, config in configs.items():
        state = Path(name)  # is named in errors only: single steps save nothing
        train = in_one_process(config)
        trainers[name] = build_trainer(store, base, ModelConfig(**config["model"]), train, state, Callbacks())
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
    """Move all that a training holds on its device: weights, their average, the optimiser's moments."""
    trainer.model.to(device)
    trainer.optimization.ema.to(device)
    for state in trainer.optimization.optimizer.state.values():
        # The count of steps stays where AdamW keeps it: on the device if it is fused, else on the CPU.
        state.update({key: value.to(device) for key, value in state.items() if key != "step"})


def in_one_process(config: Mapping[str, Any]) -> TrainConfig:
    """The settings of a `training.json`, every process's share being one part more of a batch."""
    parts = config["train"]["gradient_accumulation_steps"] * config["processes"]
    here = {"num_processes": 1, "rendezvous": None, "previews": None, "on_mismatch": "refuse"}
    settings = config["train"] | config["runtime"] | here
    return TrainConfig(**settings | {"gradient_accumulation_steps": parts})
