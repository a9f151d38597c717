"""The clip table's schema, and the documentation and rows derived from it, agree."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from clip_rows import clip_row
from golden import INGEST
from mobius_pipeline.ingest.clip_table import ClipTable
from mobius_pipeline.ingest.describe import KnownSource, describe
from mobius_pipeline.ingest.schema import (
    CLIP_COLUMNS,
    CLIPS,
    SOURCE_COLUMNS,
    TO_ENCODE,
    in_file,
    meaning_of,
    rejected,
    unit_of,
)
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.tables import CHECKSUMS
from tiny import CLIP

PAGE = Path(__file__).parents[2] / "docs/clip_table.md"


def documentation() -> str:
    """The table of docs/clip_table.md; put what this returns there when the schema changes."""
    rows = ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    for field in CLIP_COLUMNS:
        kind = "list of strings" if pa.types.is_list(field.type) else str(field.type)
        required = "" if field.nullable else " (required)"
        rows.append(
            f"| `{field.name}` | {kind}{required} | {unit_of(field.name)} | {meaning_of(field.name)} |"
        )
    return "\n".join(rows)


def test_the_documentation_is_that_of_the_schema() -> None:
    assert documentation() in PAGE.read_text()


def test_every_column_says_what_it_holds() -> None:
    assert all(meaning_of(name) for name in CLIP_COLUMNS.names)


def test_a_rejected_row_has_every_column_of_a_source_in_its_type() -> None:
    row = rejected("a.mp4", "broken", bytes=3)
    assert list(row) == SOURCE_COLUMNS.names
    table = pa.Table.from_pylist([row], in_file(SOURCE_COLUMNS))
    assert table.to_pylist() == [row]
    assert (row["status"], row["reason"], row["bytes"], row["fps"]) == ("rejected", "broken", 3, 0.0)


def test_a_described_clip_has_the_columns_of_a_source(sample_clips: Path) -> None:
    source = next(path.name for path in sorted(sample_clips.iterdir()) if path.suffix == ".mp4")
    (row,) = describe(sample_clips, source, INGEST, CLIP)
    assert set(row) == set(SOURCE_COLUMNS.names)
    assert describe(sample_clips, source, INGEST, CLIP, {row["source_sha256"]}) == KnownSource(
        row["source_sha256"]
    )


def test_readers_ask_for_the_columns_of_the_schema() -> None:
    assert CLIPS.columns.names == CLIP_COLUMNS.names
    required = {field.name for field in CLIP_COLUMNS if not field.nullable}
    assert set(TO_ENCODE.columns.names) == required


@pytest.mark.parametrize("column", CLIP_COLUMNS.names)
def test_a_clip_table_without_a_column_is_refused(column: str, tmp_path: Path) -> None:
    table = pd.DataFrame([clip_row(0)])
    ClipTable(table).save(tmp_path / "clips.parquet")
    assert len(ClipTable.load(tmp_path / "clips.parquet", "Run it.").rows) == 1
    lacking = table.drop(columns=column)
    with pytest.raises(MobiusError, match=rf"The ClipTable cannot be used: the column {column} is.* node"):
        ClipTable(lacking).save(tmp_path / "clips.parquet")
    lacking.to_parquet(tmp_path / "clips.parquet", **CHECKSUMS)
    with pytest.raises(MobiusError, match=f"the column {column} is missing"):
        ClipTable.load(tmp_path / "clips.parquet", "Run it.")
