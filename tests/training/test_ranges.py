"""Values that a training's configuration refuses, naming the setting and its range."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training.train_mode import train_mode


@pytest.mark.parametrize("seed", [2**64, 2**63, -1])
def test_a_seed_that_torch_does_not_take_is_refused(seed: int) -> None:
    with pytest.raises(ValidationError, match=r"seed\n.* (less than 9223372036854775808|or equal to 0)"):
        tiny.train_config(seed=seed)


@pytest.mark.parametrize("warmup", [5, 6])
def test_a_warmup_that_leaves_no_step_to_time_is_refused(warmup: int) -> None:
    with pytest.raises(ValidationError, match=rf"timer_warmup: {warmup} leaves no step.*it may be 0 to 4"):
        tiny.train_config(steps=6, timer_warmup=warmup)


def test_the_largest_of_both_trains(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    config = tiny.train_config(steps=3, timer_warmup=1, seed=2**63 - 1)
    store, model = LatentsStore(tiny_store), tiny.variant("serial")
    result = train_mode(
        store, BaseModel(tiny_base), model, config, state=tmp_path / "state", output=tmp_path / "out"
    )
    assert result.metrics.step_s > 0
