"""Settings that identify a training, and settings that may change when it resumes."""

import logging
from pathlib import Path
from typing import Any

import pydantic
import pytest

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.metrics import Metrics
from mobius_pipeline.training.train_mode import train_mode

# A different value for every setting.
DECIDING: dict[str, Any] = {
    "seed": 8,
    "steps": 7,
    "last_step": 9,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "objective": {"noise_offset": 0.3},
    "optimizer": {"learning_rate": 0.5},
    "autocast": "bfloat16",
    "ema_decay": 0.3,
    "ema_warmup_power": 0.75,
    "evaluate_every": 1,
    "evaluate_clips": 1,
    "evaluate_timesteps": 2,
}
FREE: dict[str, Any] = {
    "equal_compute": True,
    "num_processes": 2,
    "rendezvous": {"endpoint": "here:1", "nodes": 2},
    "previews": {
        "every": 1, "prompts": ["x"], "count": 1, "steps": 1, "guidance_scale": 2.0, "seed": 1,
    },
    "checkpoint_every": 1,
    "keep_last": 1,
    "keep_every": 1,
    "on_mismatch": "refuse",
    "timer_warmup": 0,
    "device": "cpu:0",
}  # fmt: skip


def changed(key: str, value: Any) -> TrainConfig:
    own = getattr(tiny.train_config(), key)
    section = own.model_dump() | value if isinstance(own, pydantic.BaseModel) else value
    device = {"device": "cpu"} if key != "device" else {}
    return tiny.train_config(**{key: section, **device})


def test_every_setting_is_of_one_kind() -> None:
    assert DECIDING.keys() | FREE.keys() == TrainConfig.model_fields.keys()
    assert TrainConfig.runtime_keys() == FREE.keys()


@pytest.mark.parametrize("key", DECIDING)
def test_what_decides_makes_another_training(key: str) -> None:
    assert changed(key, DECIDING[key]).identity() != tiny.train_config().identity()


@pytest.mark.parametrize("key", FREE)
def test_what_decides_nothing_is_the_same_training(key: str) -> None:
    other = changed(key, FREE[key])
    assert other != tiny.train_config()
    assert other.identity() == tiny.train_config().identity()


def test_a_training_goes_on_with_other_settings_of_the_runtime(
    tiny_store: Path, tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(**changes: Any) -> Metrics:
        result = train_mode(
            LatentsStore(tiny_store),
            BaseModel(tiny_base),
            tiny.variant("parallel"),
            tiny.train_config(**changes),
            state=tmp_path / "state",
            output=tmp_path / "trained",
        )
        return result.metrics

    caplog.set_level(logging.INFO)
    first = train()
    again = train(device="cpu:0", checkpoint_every=1, keep_last=5, keep_every=2, timer_warmup=0)
    assert "Resuming from step 6 of 6" in caplog.text
    assert "Started on cpu, resumed on cpu:0" in caplog.text
    assert again.history == first.history
    assert again.step_s != first.step_s  # one more step is counted
