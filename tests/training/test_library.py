"""Training from Python, without Kedro and MLflow."""

from pathlib import Path

import pytest

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.metrics import LossAtStep
from mobius_pipeline.training.result import TrainingResult
from mobius_pipeline.training.train_mode import train_mode

pytestmark = pytest.mark.slow


def test_resume_state_of_another_training_is_refused(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    store, model, config = LatentsStore(tiny_store), tiny.variant("parallel"), tiny.train_config()
    folders = {"state": tmp_path / "state", "output": tmp_path / "output"}
    train_mode(store, BaseModel(tiny_base), model, config, **folders)
    before = TrainingResult(tmp_path / "output").metrics
    faster = config.model_copy(update={"steps": 8})
    with pytest.raises(MobiusError, match=r"of another training: .*train\.steps is 8 and was 6"):
        train_mode(store, BaseModel(tiny_base), model, faster, **folders)
    train_mode(store, BaseModel(tiny_base), model, config, **folders)  # resumed: there is nothing left to do
    after = TrainingResult(tmp_path / "output").metrics
    assert after.heldout_by_clip == before.heldout_by_clip
    with pytest.raises(MobiusError, match=r"names no MLflow run: .*train_parallel"):
        _ = TrainingResult(tmp_path / "output").run_id


def test_the_loss_at_equal_steps_is_that_of_this_training_not_of_the_one_it_forked(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    store, model = LatentsStore(tiny_store), tiny.variant("parallel")
    config = tiny.train_config(steps=4, checkpoint_every=2, last_step=8)
    first = train_mode(
        store, BaseModel(tiny_base), model, config, state=tmp_path / "one", output=tmp_path / "first"
    )
    metrics = first.metrics
    assert isinstance(metrics.heldout_at_steps, LossAtStep)
    assert metrics.heldout_at_steps.step == 4
    assert metrics.heldout_at_steps.loss != metrics.heldout_loss

    fork = {"on_mismatch": "fork", "checkpoint_every": 2}
    for steps, measured in ((10, True), (6, False)):  # after the fork's first step, and before it
        longer = tiny.train_config(steps=steps, last_step=12, **fork)
        folders = {"state": tmp_path / f"to {steps}", "output": tmp_path / f"forked to {steps}"}
        forked = train_mode(store, BaseModel(tiny_base), model, longer, earlier=[tmp_path / "one"], **folders)
        found = forked.metrics.heldout_at_steps
        assert (found is not None) == measured
        if found is not None:
            assert isinstance(found, LossAtStep)
            assert found.step == steps
