"""Errors about the project's own damaged files name the defect and a command that repairs it."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.ingest.clip_table import ClipTable, Manifest, Quarantine
from mobius_pipeline.ingest.schema import CLIPS, MANIFEST
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.pipelines.files import TableDataset
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document, write_json
from mobius_pipeline.runtime.tables import CHECKSUMS, StoredTable, Table, read_table
from mobius_pipeline.sampling.sample_set import SampleSet

SEEDS = range(40)
Change = Callable[[pd.DataFrame], pd.DataFrame]


def mutations(data: bytes) -> Iterator[bytes]:
    """Return variants of `data`: empty, truncated, with changed bits, noise, or in another format."""
    yield from (b"", b"[]", b"{}", b"null", b"PAR1PAR1", b"[" * 100_000, b"SQLite format 3\x00" + bytes(100))
    for seed in SEEDS:
        draw = random.Random(seed)
        yield data[: draw.randrange(len(data))]
        yield draw.randbytes(draw.randrange(1, 2 * len(data)))
        changed = bytearray(data)
        for place in draw.sample(range(len(data)), draw.choice([1, 1, 8]) if len(data) > 8 else 1):
            changed[place] ^= 1 << draw.randrange(8)
        yield bytes(changed)


def refusal(read: Callable[[], Any]) -> str | None:
    """Return the text of the error that a call raises, or None."""
    try:
        read()
    except MobiusError as error:
        return str(error)
    return None


@pytest.fixture
def manifest(sample_table: pd.DataFrame) -> pd.DataFrame:
    return sample_table.assign(warnings=[[] for _ in range(len(sample_table))])


@pytest.fixture
def store(tmp_path: Path, tiny_store: Path) -> Path:
    return Path(shutil.copytree(tiny_store, tmp_path / "latents"))


def written(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path, **CHECKSUMS)
    return path


def test_a_changed_table_is_refused_or_holds_the_same(manifest: pd.DataFrame, tmp_path: Path) -> None:
    path = written(manifest, tmp_path / "manifest.parquet")
    whole, refused = read_table(path, MANIFEST, "Run it."), 0
    for data in mutations(path.read_bytes()):
        path.write_bytes(data)
        if said := refusal(lambda: read_table(path, MANIFEST, "Run `it`.")):
            assert said.startswith(f"{path} cannot be used: ")
            assert said.endswith(" Run `it`.")
            refused += 1
        else:  # what was changed is not a value: statistics, say
            found = read_table(path, MANIFEST, "Run `it`.")
            assert found.select(whole.column_names).to_pylist() == whole.to_pylist()
    assert refused > 80


def test_whole_tables_come_back_as_pandas_reads_them(manifest: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "a=1/table.parquet"
    dataset = TableDataset(filepath=str(path), holds="mobius_pipeline.ingest.clip_table.Manifest")
    dataset.save(Manifest(manifest))
    pd.testing.assert_frame_equal(dataset.load().rows, pd.read_parquet(path, partitioning=None))


def first(column: str, value: Any) -> Change:
    """Change the first row's value."""
    return lambda table: table.assign(**{column: [value, *table[column][1:]]})


PASSWORDS = "../../../../../etc/passwd"
WRONG: dict[str, tuple[Change, str]] = {
    "twice": (lambda t: pd.concat([t, t[3:4]]), r"row 24 .*column clip_id: .* not in one row alone"),
    "null captions": (first("captions", None), r"row 0 .*captions: None"),
    "a null caption": (first("captions", ["a", None]), r"row 0 .*captions: \['a', None\]"),
    "no captions": (lambda t: t.drop(columns="captions"), "the column captions is missing"),
    "text": (lambda t: t.assign(start_frame=t["start_frame"].astype(str)), "start_frame holds .*not int64"),
    "outside": (first("path", PASSWORDS), rf"row 0 .*column path: '{PASSWORDS}' is not a path inside"),
    "absolute": (first("path", "/etc/passwd"), r"row 0 .*column path: '/etc/passwd'"),
    "another split": (lambda t: t.assign(split="test"), r"row 0 .*split: 'test' .* \(and 23 other rows\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_manifest_is_refused_with_row_and_column(
    what: str, manifest: pd.DataFrame, tmp_path: Path, sample_clips: Path, tiny_base: Path
) -> None:
    change, said = WRONG[what]
    path = written(change(manifest).reset_index(drop=True), tmp_path / "manifest.parquet")
    with pytest.raises(MobiusError, match=said):
        read_table(path, MANIFEST, "Run it.")
    with pytest.raises(MobiusError, match=said):
        update_store(
            tmp_path / "s",
            change(manifest),
            sample_clips,
            BaseModel(tiny_base),
            tiny.CLIP,
            tiny.encode_config(),
        )
    assert not (tmp_path / "s").exists()


def test_a_rejected_source_may_be_named_outside(sample_table: pd.DataFrame, tmp_path: Path) -> None:
    table = sample_table.assign(path=["../gone.mp4", *sample_table["path"][1:]])
    path = written(table, tmp_path / "clips.parquet")
    with pytest.raises(MobiusError, match=r"row 0 .*column path"):
        read_table(path, CLIPS, "Run it.")
    written(table.assign(status=["rejected", *table["status"][1:]]), path)
    assert len(read_table(path, CLIPS, "Run it.")) == 24


def used(root: Path) -> list[Any]:
    """Read all that a training reads of a store."""
    opened = LatentsStore(root)
    clips = [clip for split in ("train", "heldout") for clip in opened.clips(split)]
    return [opened.digest, [(opened.moments(clip), opened.text(clip)) for clip in clips], opened.no_text]


@pytest.mark.parametrize("name", ["index.parquet", "current.json"])
def test_encode_makes_a_damaged_store_whole(
    name: str, store: Path, sample_table: pd.DataFrame, sample_clips: Path, tiny_base: Path
) -> None:
    (path,) = store.rglob(name)
    data, shards = path.read_bytes(), {shard.name for shard in store.rglob("*.safetensors")}
    for damaged in random.Random(0).sample(list(mutations(data)), 12):
        path.write_bytes(damaged)
        if said := refusal(lambda: used(store)):
            assert str(path) in said
            assert "`kedro run --pipelines=encode`" in said
        update_store(store, sample_table, sample_clips, BaseModel(tiny_base), tiny.CLIP, tiny.encode_config())
        assert {shard.name for shard in store.rglob("*.safetensors")} == shards  # nothing was encoded again
        if name == "current.json":
            assert path.read_bytes() == data
        used(store)


def turned(table: pd.DataFrame) -> pd.DataFrame:
    """Give each clip the row of another one in its shard, or a row that does not exist."""
    return table.assign(row=table["row"].where(table["row"] < 0, table["row"].max() - table["row"]))


INDEX: dict[str, tuple[Change, str]] = {
    "row out of range": (first("row", 999), "is not in row 999 of shard-"),
    "negative row": (first("row", -5), r"row 0 .*column row: -5"),
    "another's row": (turned, "is not in row"),
    "column missing": (lambda t: t.drop(columns="text_rows"), "the column text_rows is missing"),
    "twice": (lambda t: pd.concat([t, t[:1]]), r"row 25 .*column clip_id"),
    "a shard elsewhere": (first("shard", "../../x.safetensors"), r"column shard: '\.\./\.\./x"),
    "more captions": (first("captions", ["a", "b"]), r"row 0 .*column text_shards"),
    "no empty caption": (lambda t: t[t["clip_id"] != ""], "no row for the empty caption"),
}


@pytest.mark.parametrize("what", INDEX)
def test_a_wrong_index_is_refused_and_made_again(
    what: str, store: Path, sample_table: pd.DataFrame, sample_clips: Path, tiny_base: Path
) -> None:
    (path,) = store.rglob("index.parquet")
    change, said = INDEX[what]
    whole = path.read_bytes()
    written(change(pd.read_parquet(path)), path)
    with pytest.raises(MobiusError, match=said) as reported:
        used(store)
    assert f"{path} cannot be used" in str(reported.value)
    assert "`kedro run --pipelines=encode`" in str(reported.value)
    update_store(store, sample_table, sample_clips, BaseModel(tiny_base), tiny.CLIP, tiny.encode_config())
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kind", [dict[str, str], list[int]])
def test_a_damaged_document_is_named(kind: type[Any], tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    whole = json.dumps({"a": "b"} if kind is dict[str, str] else [1, 2]).encode()
    refused = 0
    for data in mutations(whole):
        path.write_bytes(data)
        if said := refusal(lambda: read_document(path, kind, "Run `it`.")):
            assert said.startswith(f"{path} cannot be used: ")
            assert said.endswith("Run `it`.")
            refused += 1
    assert refused > 60


def test_what_is_not_asked_for_may_stand_in_a_table(manifest: pd.DataFrame, tmp_path: Path) -> None:
    path = written(manifest, tmp_path / "table.parquet")
    assert len(read_table(path, Table(MANIFEST.columns), "Run it.")) == len(manifest)


LISTED = {"prompt": "a ring", "seed": 0, "mp4": "000.mp4", "gif": "000.gif", "clip": None}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "samples.json cannot be used: the document: "),
        ([{**LISTED, "mp4": "../../../etc/passwd"}], r"0\.mp4: .*'\.\./\.\./\.\./etc/passwd' leads out"),
        ([{**LISTED, "clip": "/etc/passwd"}], r"0\.clip: .*leads out"),
        ([{"prompt": "a ring"}], r"0\.seed: "),
        ([LISTED, LISTED], "frames.safetensors cannot be used: it holds 1 videos instead of 2"),
    ],
)
def test_wrong_samples_are_refused(rows: Any, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "serial"
    folder.mkdir()
    save_file({"frames": torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)}, folder / "frames.safetensors")
    write_json(folder / "samples.json", [LISTED])
    assert len(SampleSet.load(folder).samples) == 1
    write_json(folder / "samples.json", rows)
    with pytest.raises(MobiusError, match=said) as reported:
        SampleSet.load(folder)
    assert "`kedro run --pipelines=sample_serial`" in str(reported.value)
    (folder / "frames.safetensors").write_bytes(b"frames")
    write_json(folder / "samples.json", [LISTED])
    with pytest.raises(MobiusError, match=r"frames\.safetensors cannot be used"):
        SampleSet.load(folder)


@pytest.mark.parametrize("kind", [ClipTable, Manifest, Quarantine])
def test_an_empty_table_is_whole(kind: type[StoredTable], tmp_path: Path) -> None:
    """As a quarantine of a clean folder: its columns of lists have no type."""
    kind(pd.DataFrame({name: [] for name in kind.holds.columns.names}).astype(object)).save(
        tmp_path / "empty"
    )
    assert len(kind.load(tmp_path / "empty", "Run it.").rows) == 0
