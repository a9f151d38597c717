"""Test which trainings can be timed in turns here, and when the times are rejected."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison import timing
from mobius_pipeline.comparison.model import StepTime
from mobius_pipeline.comparison.timing import move, paired_step_times, spoiled, time_in_turns
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.meters import StepTimer
from mobius_pipeline.training.train_mode import build_trainer, fingerprints


def described(store: LatentsStore, base: Path) -> Description:
    model, train = tiny.variant("parallel"), tiny.train_config()
    return Description(
        model=asdict(model),
        train=train.identity(),
        runtime=train.runtime(),
        fingerprints=fingerprints(store, BaseModel(base), model, train),
        forked_at=None,
        processes=1,
        devices=["cpu"],
    )


def timed(
    store: LatentsStore, base: Path, steps: int | None = 2, own_s: float = 10.0, **trained: Description
) -> tuple[dict[str, StepTime], str]:
    found = time_in_turns(trained, dict.fromkeys(trained, own_s), store, BaseModel(base), steps)
    return found.columns, found.note


@pytest.mark.parametrize(
    ("part", "changes", "reason"),
    [
        (
            "model",
            {"stream_spatial": True},
            "other cannot be run here (stream_spatial: Unexpected",
        ),  # of version 0.1.0
        ("train", {"batch_size": 0}, "other cannot be run here (batch_size: Input"),
        ("runtime", {"device": "cuda:9"}, "other cannot be run here (device: cuda:9"),
        ("fingerprints", {"base": "0" * 64}, "other was trained with another base than the one here"),
        ("fingerprints", {"data": "0" * 64}, "other was trained with another data than the one here"),
    ],
)
def test_what_cannot_be_run_here_is_not_timed(
    part: str, changes: dict[str, Any], reason: str, tiny_store: Path, tiny_base: Path
) -> None:
    store = LatentsStore(tiny_store)
    own = described(store, tiny_base)
    changed = Description(**own.model_dump() | {part: own.model_dump()[part] | changes})
    timers, note = timed(store, tiny_base, own=own, other=changed)
    assert timers == {}
    assert reason in note


@pytest.mark.parametrize("key", ["gradient_accumulation_steps", "batch_size"])
def test_a_training_of_a_version_without_a_setting_is_not_timed(
    key: str, tiny_store: Path, tiny_base: Path
) -> None:
    store = LatentsStore(tiny_store)
    own = described(store, tiny_base)
    del own.train[key]
    timers, note = timed(store, tiny_base, own=own)
    assert timers == {}
    assert f"own cannot be run here ({key}: Field required" in note


def test_processes_become_parts(tiny_store: Path, tiny_base: Path) -> None:
    own = described(LatentsStore(tiny_store), tiny_base)
    train = own.train | {"batch_size": 6, "gradient_accumulation_steps": 3}
    several = Description(**own.model_dump() | {"processes": 2, "train": train})
    config = timing.in_one_process(several)
    assert (config.num_processes, config.gradient_accumulation_steps) == (1, 6)


def test_a_machine_at_rest_times_in_turns(tiny_store: Path, tiny_base: Path) -> None:
    store = LatentsStore(tiny_store)
    own = described(store, tiny_base)
    timers = paired_step_times({"one": own, "other": own}, store, BaseModel(tiny_base), 3)
    assert {name: len(timer.seconds) for name, timer in timers.items()} == {"one": 5, "other": 5}


def test_no_turns_where_none_are_asked_for(tiny_store: Path, tiny_base: Path) -> None:
    store = LatentsStore(tiny_store)
    timers, note = timed(store, tiny_base, None, own=described(store, tiny_base))
    assert (timers, note) == (
        {},
        "Step times are those of each training itself, because compare.paired_steps is null.",
    )


def test_a_failure_becomes_a_note(tiny_store: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 25 GiB\nmore")

    monkeypatch.setattr(timing, "build_trainer", out_of_memory)
    store = LatentsStore(tiny_store)
    timers, note = timed(store, tiny_base, own=described(store, tiny_base))
    assert timers == {}
    assert note.endswith(
        "because timing them in turns failed (CUDA out of memory. Tried to allocate 25 GiB)."
    )


def test_steps_much_slower_than_the_training_s_own_are_not_published(
    tiny_store: Path, tiny_base: Path
) -> None:
    store = LatentsStore(tiny_store)
    timers, note = timed(store, tiny_base, own_s=1e-6, own=described(store, tiny_base))
    assert timers == {}
    assert "because the machine was busy when they were timed in turns: steps of own" in note


@pytest.mark.parametrize(
    ("seconds", "own_s", "busy"),
    [
        ([1.0, 1.1, 1.0, 1.2, 1.1], 1.0, False),
        ([1.0, 1.1, 1.0, 1.2, 1.1], 0.3, True),
        ([1.0, 1.1, 1.0, 1.2, 1.1], 9.0, False),  # the training itself was disturbed
        ([1.0, 3.0, 1.0, 3.0, 1.1], 1.0, True),
    ],
)
def test_a_busy_machine_is_recognised(seconds: list[float], own_s: float, busy: bool) -> None:
    assert spoiled(StepTimer(seconds=seconds), own_s) is busy


def test_a_waiting_training_leaves_nothing_on_its_device(tiny_store: Path, tiny_base: Path) -> None:
    trainer = build_trainer(
        LatentsStore(tiny_store),
        BaseModel(tiny_base),
        tiny.variant("parallel"),
        tiny.train_config(),
        Path("state"),
        Callbacks(),
    )
    trainer.train_step(trainer.batch(0))
    states = trainer.optimization.optimizer.state.values()
    assert len(states) == len(trainer.optimization.trained)
    move(trainer, "meta")
    held = [*trainer.model.parameters(), *trainer.model.buffers(), *trainer.optimization.ema.shadow_params]
    held += [value for state in states for key, value in state.items() if key != "step"]
    assert {tensor.device.type for tensor in held} == {"meta"}
