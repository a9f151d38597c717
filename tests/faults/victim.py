"""Run a training in a separate process, which may kill itself while it saves."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.train_mode import build_trainer
from mobius_pipeline.training.trainer import Trainer

SYSTEM = ("posix", "_safetensors_rust")  # modules whose functions reach the disk
SETTINGS = {"steps": 4, "checkpoint_every": 1, "evaluate_every": 2, "evaluate_timesteps": 1}


class Calls:
    """Counts entries into and returns from system calls, and kills the process at the `deadly` one."""

    def __init__(self, deadly: int | None) -> None:
        self.deadly, self.count = deadly, 0

    def __call__(self, frame: FrameType, event: str, what: Any) -> None:
        """Handle an event of `sys.setprofile`."""
        if event.startswith("c_") and str(getattr(what, "__module__", "")).endswith(SYSTEM):
            self.count += 1
            if self.count == self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)


class WatchedTrainer(Trainer):
    """A trainer that counts the calls while it saves."""

    calls: Calls

    def _save(self) -> None:
        sys.setprofile(self.calls)
        try:
            super()._save()
        finally:
            sys.setprofile(None)


def state_hashes(trainer: Trainer) -> dict[str, str]:
    """Return hashes of weights, EMA weights, optimiser state, losses and meters."""
    trained = trainer.optimization.trained
    states = {name: trainer.optimization.optimizer.state[parameter] for name, parameter in trained.items()}
    tensors = {
        "weights": {name: parameter.detach() for name, parameter in trained.items()},
        "ema": dict(zip(trained, trainer.optimization.ema.shadow_params, strict=True)),
        "optimizer": {f"{name}.{key}": one for name, state in states.items() for key, one in state.items()},
    }
    data = {
        kind: save({name: tensor.contiguous() for name, tensor in group.items()})
        for kind, group in tensors.items()
    }
    history = trainer.history
    values = {
        "losses": [row[:2] for row in (*history.loss, *history.heldout)],
        "meters": [history.flops, history.memory],
        "counts": [trainer.step, trainer.optimization.ema.optimization_step],
    }
    data |= {kind: json.dumps(value, sort_keys=True).encode() for kind, value in values.items()}
    return {kind: hashlib.sha256(content).hexdigest() for kind, content in data.items()}


def train(mode: Mode, store: Path, base: Path, folder: Path, deadly: int | None) -> None:
    """Train to the end or the deadly call; at the end, write the state's hashes and the number of calls."""
    torch.set_num_threads(1)
    config, model = tiny.train_config(**SETTINGS), tiny.variant(mode)
    trainer = build_trainer(LatentsStore(store), BaseModel(base), model, config, folder, Callbacks())
    trainer.__class__ = WatchedTrainer
    assert isinstance(trainer, WatchedTrainer)
    trainer.calls = Calls(deadly)
    trainer.train()
    result = {"hashes": state_hashes(trainer), "calls": trainer.calls.count}
    (folder / "result.json").write_text(json.dumps(result))
