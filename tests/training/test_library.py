"""Training from Python, without Kedro and MLflow."""

from pathlib import Path

import pytest

import tiny
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training import train_mode
from mobius_pipeline.training.run import read_metrics


def test_resume_state_of_another_training_is_refused(
    tiny_store: Path, tiny_base: Path, tmp_path: Path
) -> None:
    store, model, config = LatentsStore(tiny_store), tiny.model_config("parallel"), tiny.train_config()
    folders = {"state": tmp_path / "state", "output": tmp_path / "output"}
    train_mode(store, tiny_base, model, config, **folders)
    before = read_metrics(tmp_path / "output")
    faster = config.model_copy(update={"steps": 8})
    with pytest.raises(MobiusError, match=r"of another training: .*train\.steps is 8 and was 6"):
        train_mode(store, tiny_base, model, faster, **folders)
    train_mode(store, tiny_base, model, config, **folders)  # the same goes on: there is nothing left to do
    after = read_metrics(tmp_path / "output")
    assert after["heldout_by_clip"] == before["heldout_by_clip"]
