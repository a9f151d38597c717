"""Test the plan of an encoding against the bytes of a real store and the operations of a real VAE."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import tiny
from mobius_pipeline.base_model.load import load_vae, posterior_moments
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip_format import ClipSize
from mobius_pipeline.planning.devices import known_device
from mobius_pipeline.planning.encoding import StoreFormat, list_captions, list_clip, store_bytes
from mobius_pipeline.planning.encoding_plan import (
    EncodingPlan,
    Prices,
    Speed,
    build_encoding_plan,
    encoding_table,
)
from mobius_pipeline.planning.operations import Operations
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.meters import count_flops

SIZE = ClipSize(frames=16, height=256, width=256)
FORM = StoreFormat(
    SIZE, channels=4, scale=8, tokens=77, text_width=1024, captions_per_clip=1, clips_per_shard=32
)


def test_bytes_of_a_real_store(tiny_store: Path, sample_table: pd.DataFrame) -> None:
    clips = len(sample_table)
    captions = sample_table["captions"].explode().nunique()
    form = StoreFormat(
        tiny.CLIP.sizes[0],
        channels=4,
        scale=4,
        tokens=12,
        text_width=384,
        captions_per_clip=captions / clips,
        clips_per_shard=tiny.encode_config().clips_per_shard,
    )
    planned = store_bytes(clips, form)
    folder = LatentsStore(tiny_store).folder
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert planned.shards == len(files) - 1  # without the index
    assert planned.total == pytest.approx(sum(files.values()), rel=0.03)
    shards = sum(size for name, size in files.items() if name != "index.parquet")
    payload = planned.latents + planned.captions
    assert payload < shards < 1.1 * payload


def test_bytes_of_many_clips_are_those_of_shapes() -> None:
    planned = store_bytes(10_000_000, FORM)
    assert planned.latents == 10_000_000 * 2 * 2 * 16 * 4 * 32 * 32
    assert planned.captions == 10_000_001 * 2 * 77 * 1024
    assert planned.overhead < 0.002 * planned.total
    assert planned.shards == 312_500 + 19_532  # of 32 clips and of 512 captions
    few = store_bytes(1_000_000, FORM)
    assert planned.overhead == pytest.approx(10 * few.overhead, rel=0.01)


@pytest.mark.slow
def test_a_vae_is_listed_as_it_runs(tiny_base: Path) -> None:
    operations = Operations()
    list_clip(tiny_base, tiny.CLIP.sizes[0], 3, operations)  # 4 frames in two batches
    vae, frames = load_vae(tiny_base), torch.zeros(4, 3, 16, 16)
    assert operations.flops == count_flops(lambda: posterior_moments(vae, frames))
    whole = Operations()
    list_clip(tiny_base, tiny.CLIP.sizes[0], 4, whole)
    assert whole.flops == operations.flops
    assert len(operations.found) == 2 * len(whole.found)


@pytest.mark.slow
def test_a_text_encoder_is_listed(tiny_base: Path) -> None:
    short, long = Operations(), Operations()
    assert list_captions(tiny_base, 12, short) == 64
    list_captions(tiny_base, 24, long)
    assert 1.9 < long.flops / short.flops < 2.2


def test_a_model_without_a_vae_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="folder of a model in diffusers"):
        list_clip(tmp_path, SIZE, 16, Operations())


@pytest.mark.parametrize(("decode_rate", "hours"), [(None, 3.0), (10.0, 3.0), (0.1, 5.0)])
def test_hours_and_cost(decode_rate: float | None, hours: float) -> None:
    """10 devices with 2 cores each; a clip with its caption takes 3 s on a device."""
    speed = Speed(known_device("L40S"), 2.9, 0.1, decode_rate, cores=2, devices=10)
    clips = 36_000
    stored = store_bytes(clips, FORM)
    report = build_encoding_plan(clips, FORM, stored, speed, Prices(2.0, 0.02))
    assert report.hours is not None
    assert report.hours.encode == pytest.approx(3.0)
    assert report.hours.all == pytest.approx(hours)
    assert report.cost == pytest.approx(report.hours.all * 10 * 2.0)
    assert report.cost_per_month == pytest.approx(stored.total / 1e9 * 0.02)
    assert EncodingPlan.model_validate_json(report.model_dump_json()) == report
    encoding_table(report)


def test_every_caption_of_a_clip_takes_its_time() -> None:
    speed = Speed(known_device("L40S"), 2.0, 0.5, None, cores=2, devices=1)
    form = replace(FORM, captions_per_clip=4.0)
    report = build_encoding_plan(3600, form, store_bytes(3600, form), speed, Prices(None, None))
    assert report.hours is not None
    assert report.hours.encode == pytest.approx(2 + 4 * 0.5)


def test_without_a_device_there_are_bytes_alone() -> None:
    report = build_encoding_plan(5, FORM, store_bytes(5, FORM), None, Prices(None, None))
    assert (report.speed, report.hours, report.cost) == (None, None, None)
    assert report.cost_per_month is None
    assert encoding_table(report).row_count == 4
