"""Step times of both modes in one run: a machine's speed drifts from one training to the next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobius_pipeline.files import read_json
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.progress import stage
from mobius_pipeline.training.claim import CONFIG
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.meters import StepTimer
from mobius_pipeline.training.report import Listener
from mobius_pipeline.training.run import build_trainer

WARMUP = 2  # steps: allocation, kernel choice, the optimiser's states


def paired_step_times(
    weights: Mapping[str, Path], store: LatentsStore, base: Path, steps: int
) -> dict[str, StepTimer]:
    """Train each mode afresh for a few steps, the modes taking turns, and time every step.

    Args:
        weights: Each mode's finished training; its `training.json` says how.
        store: The latents.
        base: The base model.
        steps: Timed steps of each mode, after the warm-up.
    """
    trainers, timers = {}, {}
    for mode, folder in weights.items():
        config = read_json(folder / CONFIG)
        train = in_one_process(config)
        trainers[mode] = build_trainer(store, base, ModelConfig(**config["model"]), train, folder, Listener())
        timers[mode] = StepTimer(warmup=WARMUP, device=trainers[mode].timer.device)
    with stage("compare: step times", WARMUP + steps, "pairs") as bar:
        for step in range(WARMUP + steps):
            for mode, trainer in trainers.items():
                parts = trainer.batch(step)
                with timers[mode]:
                    trainer.update(parts)
            bar.advance()
    return timers


def in_one_process(config: Mapping[str, Any]) -> TrainConfig:
    """The settings of a `training.json`, every process's share being one part more of a batch."""
    parts = config["train"]["gradient_accumulation_steps"] * config["processes"]
    here = {"num_processes": 1, "rendezvous": None, "previews": None, "on_mismatch": "refuse"}
    return TrainConfig(**config["train"] | here | {"gradient_accumulation_steps": parts})
