"""Test the nodes that render and read clips, and that running them imports no more than needed."""

import base64
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.io import DatasetError
from PIL import Image

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.pipelines.base.nodes import make_base
from mobius_pipeline.pipelines.files import CurveDataset
from mobius_pipeline.pipelines.folders import FolderDataset, VideosDataset
from mobius_pipeline.pipelines.ingest.nodes import ingest_clips
from mobius_pipeline.pipelines.sample_data.nodes import render_sample_clips
from mobius_pipeline.runtime.daft_runner import NATIVE
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.sources.sample_clips import SampleClipsConfig

ROOT = Path(__file__).parents[2]


def parameters(name: str) -> dict[str, object]:
    document = yaml.safe_load((ROOT / f"conf/base/parameters_{name}.yml").read_text())
    return dict(document[name])


def small_set() -> SampleClipsConfig:
    return SampleClipsConfig(**parameters("sample_data") | {"clips": 4, "workers": 1})


def test_the_default_set_is_what_the_issue_asks_for() -> None:
    config = SampleClipsConfig(**parameters("sample_data"))
    assert config.clips >= 240


def test_sample_clips_go_through_ingestion(tmp_path: Path) -> None:
    published = tmp_path / "clips"
    config = small_set()
    FolderDataset(filepath=str(published)).save(render_sample_clips(config, published, tmp_path / "work"))
    clip = ClipFormat(frames=8, height=64, width=64, fps=8)
    ingest = IngestConfig(**parameters("ingest"))
    table = pd.read_parquet(ingest_clips(published, ingest, clip, NATIVE, tmp_path / "work", tmp_path))
    assert list(table["status"]) == ["ok"] * 4
    assert (table["model_frames"] >= 8).all()
    assert (table["caption"] != "").all()


def test_a_set_that_is_there_is_not_rendered_again(tmp_path: Path) -> None:
    published = tmp_path / "clips"
    dataset = FolderDataset(filepath=str(published))
    dataset.save(render_sample_clips(small_set(), published, tmp_path / "work"))
    before = {path.name: path.stat().st_mtime_ns for path in published.iterdir()}
    dataset.save(render_sample_clips(small_set(), published, tmp_path / "work"))
    assert {path.name: path.stat().st_mtime_ns for path in published.iterdir()} == before


def test_a_users_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(MobiusError, match="not sample clips"):
        render_sample_clips(small_set(), tmp_path, tmp_path / "work")
    assert (tmp_path / "mine.mp4").read_bytes() == b"mine"


def test_a_folder_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"There is no folder .*nowhere\. Run the pipeline that writes it"):
        FolderDataset(filepath=str(tmp_path / "nowhere")).load()
    with pytest.raises(DatasetError, match=r"There is no folder .*nowhere\. Look elsewhere\."):
        FolderDataset(filepath=str(tmp_path / "nowhere"), remedy="Look elsewhere.").load()


def test_a_folder_s_own_picture_is_its_preview(tmp_path: Path) -> None:
    videos = VideosDataset(filepath=str(tmp_path))
    write_mp4(tmp_path / "000.mp4", np.zeros((3, 16, 16, 3), np.uint8), fps=8)
    made = base64.b64decode(videos.preview(frames=2))
    assert Image.open(BytesIO(made)).size == (32, 16)
    Image.new("RGB", (7, 5)).save(tmp_path / "grid.png")
    assert base64.b64decode(videos.preview()) == (tmp_path / "grid.png").read_bytes()


def test_a_folder_s_first_files_are_its_preview(tmp_path: Path) -> None:
    for name, size in (("b/c.bin", 1500), ("a.txt", 2), ("d.bin", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    table = FolderDataset(filepath=str(tmp_path)).preview(nrows=2)
    assert table == {
        "index": [0, 1],
        "columns": ["file", "bytes"],
        "data": [["a.txt", "2"], ["b/c.bin", "1,500"]],
    }


def test_a_curve_s_preview_has_a_line_for_each_thing_measured(tmp_path: Path) -> None:
    curve = CurveDataset(filepath=str(tmp_path / "curve.json"))
    curve.save([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "heldout": 0.75}])
    lines = {line["name"]: (line["x"], line["y"]) for line in curve.preview()["data"]}
    assert lines == {"loss": ([1, 2], [0.5, 0.25]), "heldout": ([2], [0.75])}


def test_ingestion_imports_neither_torch_nor_mlflow_nor_great_expectations() -> None:
    code = (
        "import sys; from mobius_pipeline.pipelines.ingest import create_pipeline; create_pipeline();"
        "print([name for name in ('torch', 'mlflow', 'great_expectations') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["model.safetensors", "no_folder"])
def test_a_base_that_is_neither_a_folder_nor_settings_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(MobiusError, match=f"There is no folder {tmp_path / name}. Name a model's folder"):
        make_base(None, tmp_path, tmp_path / name, None, None, tmp_path / "work")
