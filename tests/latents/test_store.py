"""The latents store encodes only what is missing."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

import tiny
from copies import copied
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import load_vae, posterior_moments, to_unit
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.runtime.errors import MobiusError


@pytest.fixture
def store(tmp_path: Path, tiny_store: Path) -> Path:
    """A separate store for each test."""
    return Path(shutil.copytree(tiny_store, tmp_path / "latents"))


Update = Callable[..., tuple[int, int]]


@pytest.fixture
def update(sample_clips: Path, tiny_base: Path, caplog: pytest.LogCaptureFixture) -> Update:
    """Function that updates a store and returns the logged numbers of encoded clips and captions."""

    def update(
        root: Path, table: pd.DataFrame, raw_clips: Path = sample_clips, base: Path = tiny_base
    ) -> tuple[int, int]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "mobius_pipeline"):
            update_store(root, table, raw_clips, BaseModel(base), tiny.CLIP, tiny.encode_config())
        said = [record.args for record in caplog.records if "already encoded" in record.msg]
        return said[0][1], said[1][1]  # type: ignore[index,return-value]

    return update


def shards(root: Path) -> dict[str, int]:
    """The path and modification time of each shard."""
    found = root.rglob("*.safetensors")
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in found}


def test_holds_the_moments_of_every_clip(tiny_store: Path, tiny_base: Path, sample_clips: Path) -> None:
    opened = LatentsStore(tiny_store)
    for clip in [opened.clips("train")[0], opened.clips("heldout")[-1]]:
        frames = to_unit(torch.from_numpy(load_clip(sample_clips / clip.path, tiny.CLIP)))
        expected = posterior_moments(load_vae(tiny_base), frames)
        for actual, moment in zip(opened.moments(clip), expected, strict=True):
            assert actual.shape == (4, 4, 4, 4)
            torch.testing.assert_close(actual.transpose(0, 1), moment, rtol=2e-3, atol=2e-3)  # kept as fp16


def test_tells_captions_apart(tiny_store: Path) -> None:
    opened = LatentsStore(tiny_store)
    one, two = opened.clips("train")[:2]
    assert one.caption != two.caption
    assert opened.text(one).shape == opened.no_text.shape == (12, 384)
    assert not torch.equal(opened.text(one), opened.text(two))


def test_second_run_encodes_nothing(store: Path, sample_table: pd.DataFrame, update: Update) -> None:
    before, digest = shards(store), LatentsStore(store).digest
    assert update(store, sample_table) == (0, 0)
    assert shards(store) == before
    assert LatentsStore(store).digest == digest


def test_new_clip_encodes_one_clip(tmp_path: Path, sample_table: pd.DataFrame, update: Update) -> None:
    assert update(tmp_path, sample_table[:-1])[0] == len(sample_table) - 1
    before = shards(tmp_path)
    assert update(tmp_path, sample_table)[0] == 1
    assert before.items() <= shards(tmp_path).items()
    assert len(LatentsStore(tmp_path).index) == len(sample_table) + 1


def test_lost_or_damaged_shard_encodes_what_it_held(
    store: Path, sample_table: pd.DataFrame, update: Update
) -> None:
    opened = LatentsStore(store)
    held = opened.index["shard"].value_counts().drop("")
    before, digest, index = shards(store), opened.digest, (opened.folder / "index.parquet").read_bytes()
    (opened.folder / held.index[0]).unlink()
    damaged = opened.folder / held.index[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert update(store, sample_table) == (held.iloc[0] + held.iloc[1], 0)
    assert shards(store).keys() == before.keys()  # the same bytes under the same names
    assert (opened.folder / "index.parquet").read_bytes() == index
    assert LatentsStore(store).digest == digest


def test_edited_caption_encodes_text_alone(store: Path, sample_table: pd.DataFrame, update: Update) -> None:
    assert update(store, with_captions(sample_table, "something else")) == (0, 1)
    assert update(store, sample_table) == (0, 0)  # the old one is still there


def with_captions(table: pd.DataFrame, *captions: str) -> pd.DataFrame:
    """The table with these captions for its first training clip."""
    first = table.index[table["split"] == "train"][0]
    lists = [list(captions) if i == first else [one] for i, one in table["caption"].items()]
    return table.assign(captions=lists, caption=[one[0] for one in lists])


def test_several_captions_of_a_clip(store: Path, sample_table: pd.DataFrame, update: Update) -> None:
    before = LatentsStore(store).digest
    table = with_captions(sample_table, "a thing", "a thing that moves", "a thing")
    assert update(store, table) == (0, 2)
    opened = LatentsStore(store)
    (clip,) = (clip for clip in opened.clips("train") if len(clip.captions) > 1)
    assert clip.captions == ("a thing", "a thing that moves")
    assert clip.caption == "a thing"
    assert not torch.equal(opened.text(clip, 0), opened.text(clip, 1))
    assert opened.digest != before
    update(store, with_captions(sample_table, "a thing that moves", "a thing"))
    assert LatentsStore(store).digest not in {before, opened.digest}  # another one is the first


def test_an_index_of_one_caption_a_clip_is_read_and_kept(
    store: Path, sample_table: pd.DataFrame, update: Update
) -> None:
    opened = LatentsStore(store)
    lists = {"captions": "caption", "text_shards": "text_shard", "text_rows": "text_row"}
    singles = {old: opened.index[new].map(lambda values: values[0]) for new, old in lists.items()}
    index = opened.folder / "index.parquet"
    today = index.read_bytes()
    opened.index.assign(**singles).drop(columns=list(lists)).to_parquet(index)
    old = LatentsStore(store)
    assert old.digest == opened.digest
    assert torch.equal(old.text(old.clips("train")[0]), opened.text(opened.clips("train")[0]))
    assert update(store, sample_table) == (0, 0)
    assert index.read_bytes() == today


def copied_clips(source: Path, to: Path) -> Path:
    return Path(shutil.copytree(source, to / "clips"))


def test_clips_that_changed_since_are_named_and_the_others_kept(
    tmp_path: Path, sample_table: pd.DataFrame, sample_clips: Path, update: Update
) -> None:
    clips, root = copied_clips(sample_clips, tmp_path), tmp_path / "latents"
    table = sample_table[:10]
    gone, changed, other = table["path"].iloc[[1, 4, 9]]
    held = (clips / gone).read_bytes(), (clips / changed).read_bytes()
    (clips / gone).unlink()
    shutil.copy(clips / other, clips / changed)
    with pytest.raises(
        MobiusError, match=r"2 clips .* cannot be encoded: .*pipelines=ingest,validate"
    ) as reported:
        update(root, table, raw_clips=clips)
    assert f"{gone} (" in str(reported.value)
    assert f"{changed} (has changed since" in str(reported.value)
    assert not list(root.rglob("index.parquet"))
    (clips / gone).write_bytes(held[0])
    (clips / changed).write_bytes(held[1])
    assert update(root, table, raw_clips=clips)[0] == 2


def test_without_a_model_no_clip_is_tried(
    tmp_path: Path, sample_table: pd.DataFrame, tiny_base: Path, update: Update
) -> None:
    base = copied(tiny_base, tmp_path / "base")
    for weights in (base / "vae").glob("*.safetensors"):
        weights.write_bytes(b"no weights")
    with pytest.raises(MobiusError, match=r"Cannot load .*vae as AutoencoderKL"):
        update(tmp_path / "latents", sample_table[:10], base=base)


def test_orphans_are_reported_and_removed_on_request_only(
    store: Path,
    sample_table: pd.DataFrame,
    sample_clips: Path,
    tiny_base: Path,
    caplog: pytest.LogCaptureFixture,
    update: Update,
) -> None:
    (store / "earlier").mkdir()
    (store / "earlier/shard-0.safetensors").write_bytes(bytes(2**20))
    kept = len(list(store.rglob("*.safetensors")))
    few = sample_table[:1]
    update(store, few)
    reported = " ".join(record.getMessage() for record in caplog.records)
    assert "2 shards (" in reported
    assert "that no clip refers to are kept" in reported
    assert "earlier (1.0 MB)" in reported
    assert len(list(store.rglob("*.safetensors"))) == kept
    assert update(store, sample_table) == (0, 0)  # they come back
    config = tiny.encode_config(remove_orphans=True)
    before = shards(store).keys()
    update_store(store, few, sample_clips, BaseModel(tiny_base), tiny.CLIP, config)
    removed = before - shards(store).keys()
    assert len(removed) == 2
    assert all(Path(shard).name in reported for shard in removed)
    opened = LatentsStore(store)
    assert opened.moments(opened.clips(few["split"].iloc[0])[0])[0].shape == (4, 4, 4, 4)


def test_other_encoder_starts_a_store_of_its_own(
    store: Path, tmp_path: Path, sample_table: pd.DataFrame, tiny_base: Path, update: Update
) -> None:
    before = shards(store)
    base = copied(tiny_base, tmp_path / "base")
    config = base / "vae/config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 0.18215', '"scaling_factor": 0.5'))
    assert update(store, sample_table, base=base)[0] == len(sample_table)
    assert before.items() <= shards(store).items()


def test_reading_says_what_is_missing(tmp_path: Path, store: Path) -> None:
    with pytest.raises(MobiusError, match="pipelines=encode"):
        LatentsStore(tmp_path / "nowhere")
    opened = LatentsStore(store)
    clip = opened.clips("train")[0]
    (opened.folder / clip.shard).unlink()
    with pytest.raises(MobiusError, match=clip.shard):
        opened.moments(clip)
