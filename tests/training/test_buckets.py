"""Clips of several sizes and lengths train together, a batch from one bucket."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import load_vae, posterior_moments, to_unit
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat, ClipSize
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.train_mode import build_trainer, training_costs
from mobius_pipeline.training.trainer import Trainer

pytestmark = pytest.mark.slow

SQUARE = ClipSize(frames=4, height=16, width=16)
WIDE = ClipSize(frames=6, height=16, width=24)
TALL = ClipSize(frames=4, height=24, width=16)
FORMAT = ClipFormat(**SQUARE.model_dump(), fps=8, buckets=(WIDE, TALL))


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, sample_clips: Path, sample_table: pd.DataFrame
) -> LatentsStore:
    """The sample clips, half of which are wide; one of them is declared as tall."""
    root = tmp_path_factory.mktemp("buckets")
    tall = sample_table.index[sample_table["split"] == "train"][0]
    table = sample_table.copy()
    table.loc[tall, ["height", "width"]] = [48, 32]
    update_store(root, table, sample_clips, BaseModel(tiny_base), FORMAT, tiny.encode_config())
    return LatentsStore(root)


def trainer(
    store: LatentsStore, base: Path, folder: Path, mode: Mode = "parallel", **changes: Any
) -> Trainer:
    config = tiny.train_config(**changes)
    return build_trainer(store, BaseModel(base), tiny.variant(mode), config, folder, Callbacks())


def test_each_clip_is_encoded_at_its_size(store: LatentsStore, tiny_base: Path, sample_clips: Path) -> None:
    clips = [*store.clips("train"), *store.clips("heldout")]
    assert {clip.size for clip in clips} == {SQUARE, WIDE, TALL}
    for size in (SQUARE, WIDE, TALL):
        clip = next(clip for clip in clips if clip.size == size)
        frames = to_unit(torch.from_numpy(load_clip(sample_clips / clip.path, FORMAT.sized(size))))
        expected, _ = posterior_moments(load_vae(tiny_base), frames)
        mean, _ = store.moments(clip)
        assert mean.shape == (4, size.frames, size.height // 4, size.width // 4)
        torch.testing.assert_close(mean.transpose(0, 1), expected, rtol=2e-3, atol=2e-3)  # stored as fp16


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_trains_on_all_buckets_that_fill_a_batch(
    mode: Mode, store: LatentsStore, tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = trainer(store, tiny_base, tmp_path, mode, steps=8)
    assert "Skipped 1 clips of 24 x 16 px x 4 frames: fewer than a batch of 2." in caplog.text
    one.train()
    sizes = [{clip.size for clip in one.order.at(step)} for step in range(8)]
    assert all(len(size) == 1 for size in sizes)
    assert {size for step in sizes for size in step} == {SQUARE, WIDE}
    measured = one.evaluator.measure(one.model, clips=one.evaluator.clips)
    assert list(measured.by_clip) == [clip.clip_id for clip in one.evaluator.clips]
    assert {clip.size for clip in one.evaluator.clips} == {SQUARE, WIDE}
    frames = training_costs(one).frames_per_s * one.meter.timer.median_s / one.config.batch_size
    assert 4 < frames < 6


def test_heldout_loss_of_a_clip_is_its_own(store: LatentsStore, tiny_base: Path, tmp_path: Path) -> None:
    one = trainer(store, tiny_base, tmp_path)
    together = one.evaluator.measure(one.model, clips=one.evaluator.clips).by_clip
    for clip in one.evaluator.clips:
        alone = one.evaluator.measure(one.model, clips=[clip]).by_clip
        assert alone[clip.clip_id] == pytest.approx(together[clip.clip_id], rel=1e-5)


def test_memory_is_that_of_the_largest_bucket(
    store: LatentsStore, tiny_base: Path, tiny_store: Path, tmp_path: Path
) -> None:
    several = trainer(store, tiny_base, tmp_path / "several", steps=8)
    several.train()
    square = trainer(LatentsStore(tiny_store), tiny_base, tmp_path / "square", steps=8)
    square.train()
    assert several.order.at(several._measured_step)[0].size == WIDE
    ratio = WIDE.volume / SQUARE.volume
    assert several.history.flops == pytest.approx(ratio * square.history.flops, rel=0.2)
    assert several.history.memory["peak_bytes"] > square.history.memory["peak_bytes"]
