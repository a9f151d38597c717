"""The table of a folder: no file is lost, none stops the run, and names do not change the split."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ingested import ingested
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.split import split_of
from mobius_pipeline.ingest.table import clip_id
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif, write_mp4, write_webp
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import sha256

CLIP = ClipFormat(frames=4, height=32, width=32, fps=8)
INGEST = IngestConfig(heldout_share=0.3, files_per_batch=4)


def frames(seed: int, count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([np.full((32, 48, 3), rng.integers(0, 255, 3), np.uint8) for _ in range(count)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what users may have in it."""
    root = tmp_path_factory.mktemp("clips")
    (root / "été à la mer").mkdir()
    write_mp4(root / "first.mp4", frames(1), 12)
    write_gif(root / "été à la mer/die große Möwe.GIF", frames(2), 10)
    write_webp(root / "été à la mer/空.webp", frames(3), 24)
    shutil.copy(root / "first.mp4", root / "été à la mer/again.mp4")
    (root / "cut.mp4").write_bytes((root / "first.mp4").read_bytes()[:900])
    (root / "text.mp4").write_text("no video at all")
    (root / "empty.webm").write_bytes(b"")
    (root / "sheet.xlsx").write_bytes(b"\x00")
    (root / ".hidden.mp4").write_bytes(b"\x00")
    (root / "captions.csv").write_text("file,caption\nfirst.mp4, a first clip \ngone.mp4,it went\n")
    (root / "été à la mer/空.txt").write_text("the sky\n\n over the sea\nthe sky\n")
    return root


@pytest.fixture(scope="module")
def table(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return ingested(folder, INGEST, CLIP, tmp_path_factory.mktemp("work"))


def row(table: pd.DataFrame, path: str) -> pd.Series:
    return table.set_index("path").loc[path]


def test_every_media_file_is_a_row_sorted_by_path(table: pd.DataFrame) -> None:
    assert list(table["path"]) == [
        "cut.mp4",
        "empty.webm",
        "first.mp4",
        "text.mp4",
        "été à la mer/again.mp4",
        "été à la mer/die große Möwe.GIF",
        "été à la mer/空.webp",
    ]


def test_a_row_says_what_the_file_holds(table: pd.DataFrame, folder: Path) -> None:
    found = row(table, "first.mp4")
    assert (found.frames, found.start_frame, found.end_frame) == (12, 0, 12)
    assert (found.width, found.height, found.fps, found.duration_s) == (48, 32, 12, 1)
    assert (found.model_frames, found.codec, found.status, found.reason) == (8, "h264", "ok", "")
    assert found.source_sha256 == sha256(folder / "first.mp4")
    assert found.bytes == (folder / "first.mp4").stat().st_size


@pytest.mark.parametrize(
    ("path", "reason"), [("cut.mp4", "cut.mp4"), ("text.mp4", "a text file"), ("empty.webm", "is empty")]
)
def test_what_cannot_be_read_is_rejected_with_its_reason(path: str, reason: str, table: pd.DataFrame) -> None:
    found = row(table, path)
    assert found.status == "rejected"
    assert reason in found.reason
    assert (found.frames, found.model_frames) == (0, 0)


def test_captions_come_from_the_table_then_from_a_text_file(table: pd.DataFrame) -> None:
    captions = table.set_index("path")["caption"]
    assert captions["first.mp4"] == "a first clip"
    assert captions["été à la mer/空.webp"] == "the sky"
    assert captions["été à la mer/die große Möwe.GIF"] == ""
    assert row(table, "été à la mer/空.webp").captions.tolist() == ["the sky", "over the sea"]
    assert row(table, "cut.mp4").captions.tolist() == []


def test_copies_keep_their_name(table: pd.DataFrame) -> None:
    assert row(table, "first.mp4").clip_id == row(table, "été à la mer/again.mp4").clip_id
    assert table["clip_id"].nunique() == len(table) - 1


def test_another_range_is_another_clip() -> None:
    names = {clip_id("ab", 0, 8), clip_id("ab", 0, 9), clip_id("ab", 1, 8), clip_id("ac", 0, 8)}
    assert len(names) == 4
    assert all(len(name) == 64 for name in names)


def test_more_files_move_no_clip_between_the_splits(
    table: pd.DataFrame, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "more")
    write_mp4(tmp_path / "more/aaa.mp4", frames(9), 12)
    (tmp_path / "more/first.mp4").rename(tmp_path / "more/renamed.mp4")
    more = ingested(tmp_path / "more", INGEST, CLIP, tmp_path / "work")
    old = dict(zip(table["clip_id"], table["split"], strict=True))
    new = dict(zip(more["clip_id"], more["split"], strict=True))
    assert len(new) == len(old) + 1
    assert all(new[name] == split for name, split in old.items())


@pytest.mark.slow
def test_a_group_falls_on_one_side_of_the_split(tmp_path: Path) -> None:
    """Over many groups, both splits occur."""
    copy = tmp_path / "clips"
    copy.mkdir()
    for index in range(2):
        write_mp4(copy / f"{index}.mp4", frames(index), 12)
    sides = set()
    for name in "abcdefgh":
        (copy / "captions.csv").write_text(f"file,caption,group\n0.mp4,x,{name}\n1.mp4,x,{name}\n")
        table = ingested(copy, IngestConfig(heldout_share=0.5, files_per_batch=8), CLIP, tmp_path / "work")
        assert table["source_sha256"].nunique() == 2
        assert set(table["group"]) == {name}
        (side,) = set(table["split"])
        sides.add(side)
    assert sides == {"train", "heldout"}
    (copy / "captions.csv").write_text("file,caption,group\n0.mp4,x,a\n0.mp4,y,b\n1.mp4,x,\n")
    with pytest.raises(MobiusError, match=r"0\.mp4 is given the groups a and b"):
        ingested(copy, IngestConfig(heldout_share=0.5, files_per_batch=8), CLIP, tmp_path / "work")


def test_the_held_out_share_is_met() -> None:
    share = np.mean([split_of(f"{index:064x}", 0.2) == "heldout" for index in range(4000)])
    assert share == pytest.approx(0.2, abs=0.02)


def test_the_table_is_deterministic(table: pd.DataFrame, folder: Path, tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(ingested(folder, INGEST, CLIP, tmp_path / "work"), table)


def test_what_is_left_out_is_reported(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ingested(folder, INGEST, CLIP, tmp_path)
    said = caplog.text
    assert ".xlsx" in said
    assert "gone.mp4" in said
    assert "text.mp4" in said
    assert "7 clips" in said
    assert "4 read, 3 rejected, 2 without a caption" in said


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_clips_is_refused_with_the_mend(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MobiusError, match=r"no clips in .*globals.yml"):
        ingested(tmp_path / name, INGEST, CLIP, tmp_path / "work")
