"""Long work needs no more memory or open files at its end than in its first half."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soak

import tiny
from ingested import ingested
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.train_mode import build_trainer

pytestmark = pytest.mark.faults_slow

STEPS, CLIPS = 5_000, 20_000
LEAST_SEEN = 40  # moments


def test_five_thousand_steps(tiny_store: Path, tiny_base: Path, tmp_path: Path) -> None:
    config = tiny.train_config(steps=STEPS, checkpoint_every=250, evaluate_every=500)
    model = tiny.variant("parallel")
    trainer = build_trainer(
        LatentsStore(tiny_store), BaseModel(tiny_base), model, config, tmp_path, Callbacks()
    )
    seen = soak.followed(trainer.train)
    assert trainer.step == STEPS
    assert len(list(tmp_path.glob("step-*"))) == config.keep_last
    grown = soak.growth(seen)
    print("training", grown, len(seen))
    assert len(seen) > LEAST_SEEN
    assert grown.mib < 16
    assert grown.files <= 2


def write_clips(folder: Path) -> None:
    """Write GIFs that differ in their first colours, so in their bytes and pixels."""
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    write_gif(folder / "one.gif", frames, 8)
    data = bytearray((folder / "one.gif").read_bytes())
    (folder / "one.gif").unlink()
    for number in range(CLIPS):
        data[13:16] = number.to_bytes(3, "little")  # of the palette, which follows the header (GIF89a, 18)
        (folder / f"{number:05}.gif").write_bytes(data)
    lines = (f"{number:05}.gif,clip {number % 50}" for number in range(CLIPS))
    (folder / "captions.csv").write_text("file,caption\n" + "\n".join(lines))


def test_twenty_thousand_clips(tiny_base: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    config = IngestConfig(heldout_share=0.1, files_per_batch=64)
    tables: list[pd.DataFrame] = []

    def ingest() -> None:
        tables.append(ingested(tmp_path / "clips", config, tiny.CLIP, tmp_path / "work"))

    seen = soak.followed(ingest)
    (table,) = tables
    assert (len(table), set(table["status"])) == (CLIPS, {"ok"})
    grown = soak.growth(seen)
    print("ingest", grown, len(seen))
    assert len(seen) > LEAST_SEEN
    assert grown.mib < 64  # the table's own rows among it
    assert grown.files <= 4

    def encode() -> None:
        settings = tiny.encode_config(clips_per_shard=500, frames_per_batch=64)
        update_store(
            tmp_path / "latents", table, tmp_path / "clips", BaseModel(tiny_base), tiny.CLIP, settings
        )

    seen = soak.followed(encode)
    assert len(LatentsStore(tmp_path / "latents").index) == CLIPS + 1
    grown = soak.growth(seen)
    print("encode", grown, len(seen))
    assert len(seen) > LEAST_SEEN
    assert grown.mib < 64
    assert grown.files <= 4
