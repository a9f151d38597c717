"""Test that a saved file is always complete, the new one or the earlier one."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import AbstractDataset, DatasetError

from clip_rows import clip_row
from mobius_pipeline.pipelines.files import DocumentDataset, PageDataset, TableDataset
from mobius_pipeline.runtime.tables import StoredTable

CASES = [
    (TableDataset, "StoredTable(pd.DataFrame({'text': list(map(str, range(9999)))}))"),
    (DocumentDataset, "list(range(9999))"),
    (PageDataset, "'word ' * 9999"),
]
FULL = """
    import resource, sys
    import pandas as pd
    from kedro.io import DatasetError
    from mobius_pipeline.runtime.errors import in_plain_words
    from mobius_pipeline.runtime.tables import StoredTable
    from mobius_pipeline.pipelines.files import {kind}

    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # bytes of a file; beyond them, as on a full disk
    try:
        {kind}(filepath=sys.argv[1]).save({data})
    except DatasetError as error:
        print(in_plain_words(error))  # as Kedro's command does
"""


@pytest.mark.parametrize(("kind", "data"), CASES)
def test_what_cannot_be_written_leaves_what_was_there(
    kind: type[AbstractDataset[Any, Any]], data: str, tmp_path: Path
) -> None:
    file = tmp_path / "deep/file"
    dataset = kind(filepath=str(file))
    dataset.save(eval(data))
    before = file.read_bytes()
    script = textwrap.dedent(FULL).format(kind=kind.__name__, data=data)
    said = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith(f"Cannot write {file} (")
    assert "File too large" in said
    assert "The earlier file, if any, is kept" in said
    assert [path.name for path in file.parent.iterdir()] == ["file"]
    assert file.read_bytes() == before


def test_data_of_another_kind_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not JSON serializable"):
        DocumentDataset(filepath=str(tmp_path / "file")).save(object())
    assert list(tmp_path.iterdir()) == []


def test_a_table_comes_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"words": [["one", "two"], []]})
    dataset = TableDataset(filepath=str(tmp_path / "table.parquet"))
    dataset.save(StoredTable(table))
    assert [list(words) for words in dataset.load().rows["words"]] == [["one", "two"], []]
    assert dataset.preview()["data"] == [["['one' 'two']"], ["[]"]]
    dataset.save(StoredTable(table[:0].assign(text=pd.Series([], dtype="str"))))
    assert dataset.preview()["data"] == []


def test_a_table_of_clips_is_shown_with_what_a_person_reads_first(tmp_path: Path) -> None:
    dataset = TableDataset(filepath=str(tmp_path / "table.parquet"))
    dataset.save(StoredTable(pd.DataFrame([clip_row(0) | {"duplicate_of": ""}])))
    columns = dataset.preview()["columns"]
    assert columns[:5] == ["path", "caption", "reason", "status", "split"]
    assert columns[-3:] == ["likeness", "clip_id", "source_sha256"]
    assert set(columns) == {*clip_row(0), "duplicate_of"}
    assert next(iter(dataset.load().rows)) == "clip_id"  # the table itself stays as it is


def test_a_record_is_shown_whole_with_its_words_first(tmp_path: Path) -> None:
    dataset = DocumentDataset(filepath=str(tmp_path / "record.json"))
    record = {"columns": {"serial": [1, 2]}, "verdict": "a tie", "rows": [], "steps": None}
    dataset.save(record)
    shown = json.loads(dataset.preview())
    assert shown == record
    assert list(shown) == ["verdict", "steps", "columns", "rows"]
    dataset.save([1, {"a": 2}])
    assert json.loads(dataset.preview()) == [1, {"a": 2}]
