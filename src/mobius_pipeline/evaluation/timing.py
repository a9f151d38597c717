"""Step times of several trainings in one run: a machine's speed drifts from one training to the next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mobius_pipeline.latents.base import base_fingerprint
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.progress import stage
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.meters import StepTimer
from mobius_pipeline.training.report import Listener
from mobius_pipeline.training.run import build_trainer

WARMUP = 2  # steps: allocation, kernel choice, the optimiser's states


def can_be_timed(configs: Mapping[str, Mapping[str, Any]], store: LatentsStore, base: Path) -> bool:
    """Whether every training (`training.json`) can be run here: its base, data, settings and device."""
    here = {"base": base_fingerprint(base), "data": store.digest}
    return all(
        config["fingerprints"] | here == config["fingerprints"] and _is_of_today(config)
        for config in configs.values()
    )


def _is_of_today(config: Mapping[str, Any]) -> bool:
    """Whether settings are those of this version, for a device that is here."""
    try:
        ModelConfig(**config["model"])
        in_one_process(config)
    except ValidationError:
        return False
    return True


def paired_step_times(
    configs: Mapping[str, Mapping[str, Any]], store: LatentsStore, base: Path, steps: int
) -> dict[str, StepTimer]:
    """Train afresh for a few steps, the trainings taking turns, and time every step.

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
        trainers[name] = build_trainer(store, base, ModelConfig(**config["model"]), train, state, Listener())
        timers[name] = StepTimer(warmup=WARMUP, device=trainers[name].timer.device)
    with stage("compare: step times", WARMUP + steps, "rounds") as bar:
        for step in range(WARMUP + steps):
            for name, trainer in trainers.items():
                parts = trainer.batch(step)
                with timers[name]:
                    trainer.update(parts)
            bar.advance()
    return timers


def in_one_process(config: Mapping[str, Any]) -> TrainConfig:
    """The settings of a `training.json`, every process's share being one part more of a batch."""
    parts = config["train"]["gradient_accumulation_steps"] * config["processes"]
    here = {"num_processes": 1, "rendezvous": None, "previews": None, "on_mismatch": "refuse"}
    return TrainConfig(**config["train"] | here | {"gradient_accumulation_steps": parts})
