"""Test the catalog's files in a bucket: tables and records are read and written, folders are refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline, node

from bucket import S3, s3_server, with_credentials, without_credentials
from clip_rows import clip_row
from mobius_pipeline.hooks import left_behind, refuse_different_manifests
from mobius_pipeline.ingest.clip_table import Manifest
from mobius_pipeline.pipelines.files import (
    CurveDataset,
    DocumentDataset,
    EarlierTableDataset,
    PageDataset,
    TableDataset,
)
from mobius_pipeline.pipelines.folders import FolderDataset, PlaceDataset, StoreDataset, VideosDataset
from mobius_pipeline.runtime.errors import MobiusError, in_plain_words
from mobius_pipeline.runtime.tables import StoredTable
from mobius_pipeline.validation.heldout import trained_on

HOLDS = "mobius_pipeline.ingest.clip_table.Manifest"
TABLE = StoredTable(pd.DataFrame({"words": ["one", "two"], "count": [1, 2]}))
ENTRIES: dict[str, Any] = {
    "table": (TableDataset, "t.parquet", TABLE),
    "record": (DocumentDataset, "r.json", {"loss": 0.5}),
    "curve": (CurveDataset, "c.json", [{"step": 1, "loss": 0.5}]),
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running:
        running.client.create_bucket(Bucket="team")
        yield running


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    without_credentials(monkeypatch)
    fsspec.filesystem("memory").store.clear()


def refusal(dataset: AbstractDataset[Any, Any], action: str, *words: Any) -> str:
    """Return the message that a user reads if loading or saving fails."""
    with pytest.raises(DatasetError) as refused:
        getattr(dataset, action)(*words)
    said = in_plain_words(refused.value)
    assert said is not None
    assert "docs/remote_data.md" in said
    return said


def same(found: Any, data: Any) -> bool:
    return bool(found.rows.equals(data.rows)) if isinstance(data, StoredTable) else found == data


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("root", ["s3://team/data", "memory:///data"])
def test_tables_and_records_come_back(name: str, root: str, server: S3) -> None:
    kind, file, data = ENTRIES[name]
    credentials = server.credentials if root.startswith("s3") else None
    dataset = kind(filepath=f"{root}/{file}", credentials=credentials)
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists()
    assert same(kind(filepath=f"{root}/{file}", credentials=credentials).load(), data)
    assert dataset.preview()
    if root.startswith("s3"):
        assert f"data/{file}" in server.names("team")
    assert str(dataset.place) == f"{root}/{file}"


def test_a_table_that_may_be_larger_than_memory_is_moved_there(server: S3, tmp_path: Path) -> None:
    local = tmp_path / "t.parquet"
    TABLE.save(local)
    dataset = TableDataset(filepath="s3://team/moved.parquet", credentials=server.credentials)
    dataset.save(local)
    assert not local.exists()
    assert same(dataset.load(), TABLE)


def test_kedro_finds_the_credentials_that_an_entry_names(server: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are from `credentials.yml` or, if an entry names none, from the environment."""
    entry = {"type": "mobius_pipeline.pipelines.files.DocumentDataset", "filepath": "s3://team/kedro.json"}
    named = {"record": {**entry, "credentials": "storage"}}
    catalog = DataCatalog.from_config(named, {"storage": server.credentials})
    catalog.save("record", [1])
    with_credentials(monkeypatch, server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert DataCatalog.from_config({"record": entry}).load("record") == [1]


@pytest.mark.parametrize("name", ENTRIES)
def test_what_cannot_be_reached_is_explained_without_secrets(
    name: str, server: S3, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    kind, file, data = ENTRIES[name]
    secret = "s3cr3tVALUE"
    wrong = {**server.credentials, "secret": secret}
    cases = {
        "PermissionError": kind(filepath=f"s3://team/{file}", credentials=wrong),
        "Unable to locate credentials": kind(
            filepath=f"s3://team/{file}", fs_args={"endpoint_url": server.endpoint}
        ),
        "bucket does not exist": kind(filepath=f"s3://nobody/{file}", credentials=server.credentials),
        "unexpected keyword argument 'aws_secret'": kind(
            filepath=f"s3://team/{file}", credentials={"aws_secret": secret}
        ),
    }
    for why, dataset in cases.items():
        for said in (refusal(dataset, "load"), refusal(dataset, "save", data)):
            assert f"://{'nobody' if 'bucket' in why else 'team'}/{file} (" in said
            assert why in said
            assert "conf/local/credentials.yml" in said
    assert "nobody" not in [found["Name"] for found in server.client.list_buckets()["Buckets"]]
    shown = caplog.text + "".join(capfd.readouterr())
    assert secret not in shown
    assert server.secret not in shown


def test_a_server_that_does_not_answer_is_explained(server: S3) -> None:
    once = {"retries": {"total_max_attempts": 1}}
    unreachable = {**server.credentials, "endpoint_url": "http://127.0.0.1:1", "config_kwargs": once}
    dataset = DocumentDataset(filepath="s3://team/r.json", credentials=unreachable)
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:1/' in refusal(dataset, "load")


def test_a_missing_or_damaged_file_names_the_pipeline_that_makes_it(server: S3) -> None:
    at = {"credentials": server.credentials, "made_by": "validate"}
    for kind, file in ((TableDataset, "none.parquet"), (DocumentDataset, "none.json")):
        with pytest.raises(DatasetError, match=rf"s3://team/{file}.*`kedro run --pipelines=validate`"):
            kind(filepath=f"s3://team/{file}", **at).load()
    server.client.put_object(Bucket="team", Key="cut.parquet", Body=b"PAR1")
    with pytest.raises(DatasetError, match=r"s3://team/cut\.parquet cannot be used: .*--pipelines=validate"):
        TableDataset(filepath="s3://team/cut.parquet", **at).load()


def test_what_fails_leaves_what_was_there(server: S3) -> None:
    dataset = DocumentDataset(filepath="s3://team/kept.json", credentials=server.credentials)
    dataset.save({"kept": True})
    with pytest.raises(DatasetError, match="not JSON serializable"):
        dataset.save(object())
    assert dataset.load() == {"kept": True}


def test_a_protocol_that_fsspec_lacks_is_explained() -> None:
    with pytest.raises(MobiusError, match=r"nowhere://x/r\.json cannot be used: Protocol not known"):
        DocumentDataset(filepath="nowhere://x/r.json")
    with pytest.raises(MobiusError, match=r"gs://x/r\.json needs a package that is not installed: .*gcsfs"):
        DocumentDataset(filepath="gs://x/r.json")


def test_what_was_trained_on_is_read_where_the_manifest_is(server: S3) -> None:
    """Otherwise clips that were trained on could be held out later."""
    at = {"filepath": "s3://team/manifest.parquet", "credentials": server.credentials}
    earlier = EarlierTableDataset(**at)
    assert trained_on(earlier.load()) == set()
    ids = ("clip_id", "source_sha256")
    rows = pd.DataFrame(
        [
            clip_row(number, split=split, warnings=[], **dict.fromkeys(ids, f"{number}" * 64))
            for number, split in enumerate(("train", "heldout"))
        ]
    )
    manifest = TableDataset(**at, holds=HOLDS)
    manifest.save(Manifest(rows))
    assert trained_on(earlier.load()) == {rows["source_sha256"][0]}
    with pytest.raises(DatasetError, match="not an output"):
        earlier.save("a table")
    one = Pipeline([node(len, "clips", "manifest")])
    refuse_different_manifests(one, DataCatalog({"manifest": manifest, "earlier_manifest": earlier}))
    apart = EarlierTableDataset(filepath="data/manifest.parquet")
    with pytest.raises(MobiusError, match=r"`earlier_manifest` is data/m.*, and `manifest` is s3"):
        refuse_different_manifests(one, DataCatalog({"manifest": manifest, "earlier_manifest": apart}))


def test_a_file_elsewhere_has_no_scratch_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: S3
) -> None:
    """`team/r.json` is not a local path, even if a local file has this path."""
    (tmp_path / "team/.r.json.partial").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    record = DocumentDataset(filepath="s3://team/r.json", credentials=server.credentials)
    monkeypatch.setattr("mobius_pipeline.hooks.pipelines", {"a": Pipeline([node(len, "clips", "record")])})
    assert left_behind(DataCatalog({"record": record})) == []


@pytest.mark.parametrize("kind", [FolderDataset, VideosDataset, StoreDataset, PageDataset])
def test_what_is_made_of_several_files_stays_on_this_machine(kind: Any) -> None:
    made_by = {} if kind is PageDataset else {"made_by": "encode", "holds": "nothing.Here"}
    with pytest.raises(MobiusError, match=r"^s3://team/x is an address\. A .*`dvc push`"):
        kind(filepath="s3://team/x", **made_by)


def test_what_is_only_read_is_brought_here_first(tmp_path: Path) -> None:
    for kind in (FolderDataset, PlaceDataset):
        with pytest.raises(
            MobiusError, match=r"`dvc import-url s3://team/clips my_clips`, and name my_clips"
        ):
            kind(filepath="s3://team/clips")
    (tmp_path / "clips").mkdir()
    assert FolderDataset(filepath=f"file://{tmp_path}/clips").load() == tmp_path / "clips"
