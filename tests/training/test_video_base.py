"""A text-to-video base that the test makes itself: trained serially, exported, fine-tuned in both modes."""

from pathlib import Path

import pytest

import golden
import tiny
from ingested import ingested
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.models.export import export
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.sources.sample_clips import write_set
from mobius_pipeline.training.result import TrainingResult
from mobius_pipeline.training.train_mode import start_heldout_loss, train_mode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def video_base(tiny_store: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    config = tiny.train_config(steps=30, evaluate_every=30, checkpoint_every=30)
    model, store = tiny.variant("serial"), LatentsStore(tiny_store)
    train_mode(store, BaseModel(tiny_base), model, config, state=folder / "state", output=folder / "serial")
    base = export(folder / "serial", tiny_base, folder / "base")
    exported = start_heldout_loss(store, BaseModel(base), config)
    assert exported.loss == pytest.approx(TrainingResult(folder / "serial").metrics.heldout_loss, rel=1e-5)
    return base


@pytest.fixture(scope="module")
def other_clips(video_base: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentsStore:
    folder = tmp_path_factory.mktemp("other")
    (folder / "clips").mkdir()
    write_set(folder / "clips", golden.CLIPS.model_copy(update={"seed": 2}))
    table = ingested(folder / "clips", golden.INGEST, tiny.CLIP, folder / "work")
    update_store(
        folder / "latents", table, folder / "clips", BaseModel(video_base), tiny.CLIP, tiny.encode_config()
    )
    return LatentsStore(folder / "latents")


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_both_modes_start_as_the_video_model_and_learn(
    mode: Mode, other_clips: LatentsStore, video_base: Path, tmp_path: Path
) -> None:
    config = tiny.train_config(steps=30, evaluate_every=30, evaluate_clips=99, checkpoint_every=30)
    model = tiny.variant(mode)
    result = train_mode(
        other_clips, BaseModel(video_base), model, config, state=tmp_path / "state", output=tmp_path / mode
    )
    metrics = result.metrics
    first = metrics.history.heldout[0][1]
    assert first == pytest.approx(metrics.heldout_loss_start, rel=1e-5)
    assert metrics.heldout_loss < metrics.heldout_loss_start
    pipe = MobiusTextToVideoPipeline.from_pretrained(video_base, result.folder)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("a red circle falling", num_frames=4, num_inference_steps=2, output_type="np").frames
    assert frames.shape == (1, 4, 16, 16, 3)
