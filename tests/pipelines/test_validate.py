"""Test the `validate` pipeline from a clip table to its three datasets, run by Kedro."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from mobius_pipeline.ingest.clip_table import ClipTable
from mobius_pipeline.ingest.schema import CLIP_COLUMNS
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.pipelines.folders import FolderDataset
from mobius_pipeline.pipelines.validate import create_pipeline
from mobius_pipeline.validation.config import ValidateConfig


def clip_table(count: int) -> pd.DataFrame:
    table = pd.DataFrame({column: ["text"] * count for column in CLIP_COLUMNS.names}).assign(
        clip_id=[f"id{number}" for number in range(count)],
        split=["train", "heldout"] * (count // 2),
        status="ok",
        caption=["a ball"] * (count - 1) + [""],
        fps=8.0,
        duration_s=1.0,
    )
    return table.assign(
        **dict.fromkeys(("start_frame", "end_frame", "frames", "model_frames", "bytes"), 64)
    ).assign(
        width=64,
        height=64,
        motion=1.0,
        static_share=0.0,
        black_share=0.0,
        flicker=0.0,
        aspect=1.0,
        words=2,
    )


def test_table_to_manifest_quarantine_and_published_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = yaml.safe_load(Path("conf/base/parameters_validate.yml").read_text())["validate"]
    inputs = {
        "clip_table": ClipTable(clip_table(12)),
        "params:validate": ValidateConfig(**section),
        "params:clip": ClipFormat(frames=8, height=32, width=32, fps=8),
        "work": tmp_path / "work",
        "earlier_manifest": tmp_path / "manifest.parquet",
    }
    catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in inputs.items()})
    catalog["data_docs"] = FolderDataset(filepath=str(tmp_path / "data_docs"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    outputs = SequentialRunner().run(create_pipeline(), catalog)
    assert len(outputs["manifest"].load().rows) == 11
    assert list(outputs["quarantine"].load().rows["reason"]) == ["no caption"]
    assert (tmp_path / "data_docs/index.html").is_file()
    assert list(Path.cwd().iterdir()) == []
