"""Captions from all places: which one has priority, how many there are, and what is wrong with them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from ingested import captions_of
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.runtime.errors import MobiusError

INGEST = IngestConfig(heldout_share=0.5, files_per_batch=4)
FROM_FOLDER = INGEST.model_copy(update={"caption_from_folder": True})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(b"\0")
    return tmp_path / "clips"


def captions(folder: Path, config: IngestConfig = INGEST) -> dict[str, list[str]]:
    return captions_of(folder, config)


def test_a_text_file_holds_a_caption_a_line(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeffa cat\r\n\r\n  it sleeps \r\na cat\r\n", encoding="utf-8")
    assert captions(folder) == {"a.mp4": ["a cat", "it sleeps"]}


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1e", "\x85"])
def test_only_line_ends_end_a_line(inside: str, folder: Path) -> None:
    (folder / "a.txt").write_bytes(f"a cat{inside}on a mat\nit sleeps\rand wakes\r\n".encode())
    assert captions(folder) == {"a.mp4": [f"a cat{inside}on a mat", "it sleeps", "and wakes"]}


def test_a_sequence_has_its_text_beside_its_folder(folder: Path) -> None:
    (folder / "take.1").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / "take.1" / name).write_bytes(b"\0")
    (folder / "take.1/sequence.json").write_text('{"fps": 24}')
    (folder / "take.1.txt").write_text("a take")
    assert captions(folder) == {"take.1": ["a take"]}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_several_rows_of_a_file_are_several_captions(suffix: str, folder: Path) -> None:
    rows = [("a.mp4", " a cat "), ("a.mp4", "it sleeps, long"), ("a.mp4", "a cat"), ("a.mp4", "")]
    table = pd.DataFrame(rows, columns=["file", "caption"])
    write = {"csv": table.to_csv, "parquet": table.to_parquet}
    if suffix == "jsonl":
        table.to_json(folder / "captions.jsonl", orient="records", lines=True)
    else:
        write[suffix](folder / f"captions.{suffix}", index=False)
    assert captions(folder) == {"a.mp4": ["a cat", "it sleeps, long"]}


def test_the_listing_counts_before_the_table_before_the_text_before_the_folder(folder: Path) -> None:
    names = [f"a_walk/{place}.mp4" for place in ("listed", "table", "text", "folder")]
    (folder / "a_walk").mkdir()
    for name in names:
        (folder / name).write_bytes(b"\0")
    listing = [{"file": name, "caption": "listed" if "listed" in name else " "} for name in [*names, "a.mp4"]]
    (folder / "listing.jsonl").write_text("\n".join(map(json.dumps, listing)))
    table = "".join(f"{name},table\n" for name in names[:2])
    (folder / "captions.csv").write_text(f"file,caption\n{table}")
    for name in names[:3]:
        (folder / name).with_suffix(".txt").write_text("text")
    known = {name: [place] for name, place in zip(names, ["listed", "table", "text"], strict=False)}
    assert captions(folder) == known
    assert captions(folder, FROM_FOLDER) == {**known, "a_walk/folder.mp4": ["a walk"]}


def test_a_table_counts_before_what_a_shard_holds(folder: Path) -> None:
    import io
    import tarfile

    with tarfile.open(folder / "s.tar", "w") as tar:
        for name in ("1.mp4", "1.txt", "2.mp4", "2.txt"):
            info = tarfile.TarInfo(name)
            info.size = 6
            tar.addfile(info, io.BytesIO(b"shard\n"))
    (folder / "captions.csv").write_text("file,caption\ns.tar/1.mp4,table\n")
    assert captions(folder) == {"s.tar/1.mp4": ["table"], "s.tar/2.mp4": ["shard"]}


def test_what_belongs_to_no_clip_is_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "captions.csv").write_text("file,caption\ngone.mp4,it went\na.mp4,a cat\n")
    (folder / "a.mp4.txt").write_text("misnamed")
    assert captions(folder) == {"a.mp4": ["a cat"]}
    assert "captions.csv has captions of 1 files that do not exist, such as gone.mp4" in caplog.text
    assert "text files belong to no clip, such as a.mp4.txt" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [("Grüße".encode("latin-1"), "not UTF-8 text"), (b"a" * (1 << 20) + b"b", "more than 1,048,576 bytes")],
)
def test_a_text_that_cannot_be_read_leaves_its_clip_without(
    content: bytes, reason: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.txt").write_bytes(content)
    assert captions(folder) == {}
    assert "a.txt gives its clip no caption" in caplog.text
    assert reason in caplog.text


def test_a_text_outside_is_not_read(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "a.txt").symlink_to("../secret.txt")
    assert captions(folder) == {}
    assert "a.txt gives its clip no caption: a link that leads outside" in caplog.text


def test_a_table_outside_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("file,caption\na.mp4,secret\n")
    (folder / "captions.csv").symlink_to("../captions.csv")
    with pytest.raises(MobiusError, match=r"captions.csv: a link that leads outside"):
        captions(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("captions.csv", b"name,text\na.mp4,hello\n", "line 2: lacks the column file. It has 'name', 'text'"),
        (
            "captions.csv",
            b"file;caption\na.mp4;a cat, asleep\n",
            "lacks the column caption and file. It has 'file;caption'. ",
        ),
        ("captions.csv", b"file\tcaption\na.mp4\ta cat\n", "Separate columns by commas"),
        ("captions.csv", b"file,prompt\na.mp4,a cat\n", "lacks the column caption. It has 'file', 'prompt'"),
        ("captions.csv", "file,caption\na.mp4,Grüße\n".encode("latin-1"), "not UTF-8"),
        ("captions.jsonl", b'{"file": "a.mp4", "prompt": "a cat"}\n', "line 1: lacks the column caption"),
    ],
)
def test_a_table_needs_its_columns_and_utf8(name: str, content: bytes, said: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(MobiusError, match=said):
        captions(folder)


def test_a_table_may_start_with_a_byte_order_mark_and_hold_commas(folder: Path) -> None:
    (folder / "captions.csv").write_text('file,caption\na.mp4,"a cat, asleep"\n', encoding="utf-8-sig")
    assert captions(folder) == {"a.mp4": ["a cat, asleep"]}


@pytest.mark.parametrize("ending", ["txt", "TXT", "Txt", "caption", "CAPTION"])
def test_a_text_s_ending_is_read_in_any_case_and_as_kohya_has_it(ending: str, folder: Path) -> None:
    (folder / "UPPER.MP4").write_bytes(b"\0")
    (folder / f"UPPER.{ending}").write_text("a cat\nit sleeps\n")
    assert captions(folder) == {"UPPER.MP4": ["a cat", "it sleeps"]}


def test_a_txt_counts_before_a_caption(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a.txt").write_text("first")
    (folder / "a.caption").write_text("second")
    assert captions(folder) == {"a.mp4": ["first"]}
    (folder / "a.txt").write_text("\n")
    assert captions(folder) == {"a.mp4": ["second"]}
    assert caplog.text == ""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "CSV"])
def test_the_metadata_of_hugging_face_is_read(suffix: str, folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "train/b.mp4").write_bytes(b"\0")
    for place, file, said in (("", "a.mp4", "a cat"), ("train", "b.mp4", "a dog, asleep")):
        table = pd.DataFrame({"file_name": [file], "text": [said], "width": [3]})
        path = folder / place / f"metadata.{suffix}"
        if suffix == "jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            (table.to_parquet if suffix == "parquet" else table.to_csv)(path, index=False)
    assert captions(folder) == {"a.mp4": ["a cat"], "train/b.mp4": ["a dog, asleep"]}
    (folder / "captions.csv").write_text("file,caption\na.mp4,our own\n")
    assert captions(folder) == {"a.mp4": ["our own"], "train/b.mp4": ["a dog, asleep"]}


def test_other_metadata_is_named_and_stops_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "metadata.csv").write_text("videoid,name\n1,a cat\n")
    (folder / "metadata.jsonl").write_bytes(b"\xff")
    (folder / "a.txt").write_text("a cat")
    assert captions(folder) == {"a.mp4": ["a cat"]}
    needs = "is not read (it needs columns `file_name` and `text`): "
    assert f"metadata.csv {needs}lacks the column caption and file. It has 'videoid', 'name'." in caplog.text
    assert f"metadata.jsonl {needs}{folder / 'metadata.jsonl'} is not UTF-8 text" in caplog.text


def write_metadata(folder: Path, suffix: str, row: dict[str, object]) -> None:
    table, path = pd.DataFrame([row]), folder / f"metadata.{suffix}"
    if suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        (table.to_parquet if suffix == "parquet" else table.to_csv)(path, index=False)


@pytest.mark.parametrize(
    "row",
    [
        {"video_file_name": "a.mp4"},
        {"clip_file_name": "a.mp4", "image_file_name": "a.jpg"},
        {"first_file_name": "a.mp4", "second_file_name": None},
        {"file_name": "a.mp4", "video_file_name": "gone.mp4"},
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files_are_named_in_the_columns_of_video_folder(
    suffix: str, row: dict[str, object], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.jpg").write_bytes(b"\0")
    write_metadata(folder, suffix, {**row, "text": "a cat"})
    assert captions(folder) == {"a.mp4": ["a cat"]}
    assert "do not exist" not in caplog.text
    no_clips = f"metadata.{suffix} has captions of 1 files that are not clips, such as a.jpg"
    assert (no_clips in caplog.text) == ("image_file_name" in row)


@pytest.mark.parametrize("column", ["file_names", "videos_file_names"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_row_may_name_a_list_of_files(column: str, suffix: str, folder: Path) -> None:
    (folder / "b.mp4").write_bytes(b"\0")
    write_metadata(folder, suffix, {column: ["a.mp4", "b.mp4"], "text": "a cat"})
    assert captions(folder) == {"a.mp4": ["a cat"], "b.mp4": ["a cat"]}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_that_names_no_file_is_reported(
    suffix: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_metadata(folder, suffix, {"video_file_name": "b.mp4", "text": "a cat"})
    assert captions(folder) == {}
    assert f"metadata.{suffix} has captions of 1 files that do not exist, such as b.mp4" in caplog.text
    write_metadata(folder, suffix, {"video_file_name": None, "text": "a cat"})
    with pytest.raises(MobiusError, match=rf"metadata.{suffix}, \w+ \d: names no file in video_file_name"):
        captions(folder)


def test_where_captions_lack_the_files_that_may_hold_some_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.json").write_text('{"caption": "a cat"}')
    (folder / "prompts.tsv").write_text("a.mp4\ta cat")
    assert captions(folder) == {}
    assert "1 sources have no caption. 2 files that may hold captions are not read: a.json, prompts.tsv" in (
        caplog.text
    )
    caplog.clear()
    (folder / "a.txt").write_text("a cat")
    captions(folder)
    assert "a.json" not in caplog.text


def test_a_table_s_name_is_read_in_any_case(folder: Path) -> None:
    (folder / "Captions.CSV").write_text("file,caption\na.mp4,a cat\n")
    assert captions(folder) == {"a.mp4": ["a cat"]}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("clips/sub/b.mp4", "sub/b.mp4"),
        ("b.mp4", "sub/b.mp4"),
        ("D:\\clips\\sub\\b.mp4", "sub/b.mp4"),
        ("sub/b", "sub/b.mp4"),
        ("SUB/B.MP4", "sub/b.mp4"),
        ("sub/b.avi", "sub/b.mp4"),
        ("x/c.mp4", None),
        ("other/c.mp4", "other/c.mp4"),
        ("gone.mp4", None),
    ],
)
def test_a_file_that_may_have_been_meant_is_named(
    written: str, meant: str | None, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("sub/b.mp4", "sub/c.mp4", "deep/other/c.mp4" if meant == "other/c.mp4" else "other/c.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0")
    meant = meant and meant.replace("other/", "deep/other/")
    (folder / "captions.jsonl").write_text(json.dumps({"file": written, "caption": "a bee"}))
    assert captions(folder) == {}
    assert (f"Did you mean {meant}?" in caplog.text) if meant else ("Did you mean" not in caplog.text)
    (folder / "listing.jsonl").write_text(json.dumps({"file": written}))
    (reason,) = find_media(folder).refused.values()
    assert ("Did you mean" in reason) == bool(meant)


@pytest.mark.parametrize("name", ["captions", "listing", "metadata"])
def test_backslashes_between_folders_are_read(name: str, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/b.mp4").write_bytes(b"\0")
    (folder / "sub\\c.mp4").write_bytes(b"\0")
    (folder / f"{name}.csv").write_text("file,caption\nsub\\b.mp4,a bee\nsub\\c.mp4,a cow\n")
    assert captions(folder) == {"sub/b.mp4": ["a bee"], "sub\\c.mp4": ["a cow"]}
