"""A listing decides what is ingested: in three formats, at any size, with any names."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ingested import captions_of, ingested
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import sha256

INGEST = IngestConfig(heldout_share=0.5, files_per_batch=4)
ROWS = [
    {"file": "b.mp4", "caption": "a bee"},
    {"file": "sub/a.gif", "caption": "an ant"},
    {"file": "b.mp4", "caption": "it flies"},
]
FORMATS = ["csv", "jsonl", "parquet"]


def write(folder: Path, suffix: str, rows: list[dict[str, object]]) -> Path:
    path, table = folder / f"listing.{suffix}", pd.DataFrame(rows)
    if suffix == "csv":
        table.to_csv(path, index=False)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        table.to_parquet(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four empty files: only names matter here."""
    (tmp_path / "clips/sub").mkdir(parents=True)
    for name in ("b.mp4", "c.webm", "d.mp4", "sub/a.gif", "notes.pdf"):
        (tmp_path / "clips" / name).write_bytes(b"\0")
    return tmp_path / "clips"


@pytest.mark.parametrize("suffix", FORMATS)
def test_only_what_is_listed_is_ingested(suffix: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, suffix, ROWS)
    found = find_media(folder)
    assert (found.paths, found.refused) == (["b.mp4", "sub/a.gif"], {})
    assert f"listing.{suffix} names 2 sources; 2 others in the folder are left out" in caplog.text
    assert captions_of(folder, INGEST, found) == {"b.mp4": ["a bee", "it flies"], "sub/a.gif": ["an ant"]}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_row_may_hold_several_captions(suffix: str, folder: Path) -> None:
    write(folder, suffix, [{"file": "b.mp4", "captions": ["a bee", " it flies ", "a bee", ""]}])
    assert captions_of(folder, INGEST) == {"b.mp4": ["a bee", "it flies"]}


@pytest.mark.parametrize("suffix", FORMATS)
def test_captions_may_be_missing(suffix: str, folder: Path) -> None:
    write(folder, suffix, [{"file": "b.mp4"}, {"file": "d.mp4", "caption": None}])
    (folder / "b.txt").write_text("from beside\n")
    assert captions_of(folder, INGEST) == {"b.mp4": ["from beside"]}


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_must_not_be_opened_or_is_not_there_is_rejected_as_listed(
    suffix: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"\0")
    (folder / "out").symlink_to(tmp_path)
    reasons = {
        str(tmp_path / "secret.mp4"): "an absolute path",
        str(folder / "b.mp4"): "an absolute path",
        "../secret.mp4": "`..`",
        "sub/../b.mp4": "`..`",
        "out/secret.mp4": "out: a link that leads outside",
        "gone.mp4": "does not exist",
        "nul\0.mp4": "does not exist",
        "notes.pdf": "is not a clip",
        "sub": "does not exist",
    }
    write(
        folder,
        suffix,
        [{"file": name} for name in [*reasons, "./sub//a.gif"] if "\0" not in name or suffix != "csv"],
    )
    found = find_media(folder)
    assert found.paths == ["sub/a.gif"]
    assert len(found.refused) == len(reasons) - (suffix == "csv")
    for name, reason in found.refused.items():
        assert reasons[name] in reason


def test_a_promised_hash_is_kept_or_the_file_is_rejected(tmp_path: Path) -> None:
    """GIF has no checksum: no decoder detects the wrong frame that a flipped bit causes."""
    clips = tmp_path / "clips"
    clips.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for name in ("good.gif", "flipped.gif", "unknown.gif"):
        write_gif(clips / name, np.stack([np.roll(picture, step, axis=1) for step in range(8)]), 8)
    promised = sha256(clips / "good.gif")
    data = bytearray((clips / "flipped.gif").read_bytes())
    data[len(data) // 2] ^= 1
    (clips / "flipped.gif").write_bytes(data)
    rows = [("good.gif", f" {promised.upper()}"), ("flipped.gif", promised), ("unknown.gif", "")]
    write(clips, "csv", [{"file": name, "sha256": said} for name, said in rows])
    clip = ClipFormat(frames=4, height=16, width=16, fps=8)
    table = ingested(clips, INGEST, clip, tmp_path / "work").set_index("path")
    assert table["status"].to_dict() == {"good.gif": "ok", "flipped.gif": "rejected", "unknown.gif": "ok"}
    assert (
        f"is {sha256(clips / 'flipped.gif')}, but the listing gives {promised}"
        in (table["reason"]["flipped.gif"])
    )


def test_members_of_shards_and_sequences_can_be_listed(folder: Path) -> None:
    (folder / "s.tar").write_bytes(b"no tar at all" * 100)
    (folder / "shots").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / "shots" / name).write_bytes(b"\0")
    (folder / "shots/sequence.json").write_text('{"fps": 24}')
    write(folder, "jsonl", [{"file": "s.tar/1.mp4"}, {"file": "shots"}])
    found = find_media(folder)
    assert found.paths == ["shots"]
    assert "s.tar: not a plain tar archive" in found.refused["s.tar/1.mp4"]


def test_one_spelling_of_an_accent_finds_the_other(folder: Path) -> None:
    (folder / "e\u0301te\u0301.mp4").write_bytes(b"\0")
    write(folder, "csv", [{"file": "\u00e9t\u00e9.mp4", "caption": "summer"}])
    found = find_media(folder)
    assert found.paths == ["e\u0301te\u0301.mp4"]
    assert captions_of(folder, INGEST, found) == {"e\u0301te\u0301.mp4": ["summer"]}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("listing.jsonl", b'{"file": "b.mp4"}\n\n{"file": ', "line 3: damaged JSON"),
        ("listing.jsonl", b"[" * 100_000, "line 1: damaged JSON"),
        ("listing.jsonl", b'["b.mp4"]', "line 1: not an object"),
        ("listing.jsonl", b'{"path": "b.mp4"}', "line 1: lacks the column file"),
        ("listing.jsonl", b'{"file": 3}', "line 1: `file` must be a path, not 3"),
        ("listing.jsonl", b'{"file": ""}', "line 1: `file` must be a path"),
        ("listing.jsonl", b'{"file": "b.mp4", "caption": 3}', "line 1: a caption must be a string, not 3"),
        ("listing.jsonl", b'{"file": "b.mp4", "captions": "a bee"}', "line 1: `captions` must be a list"),
        ("listing.jsonl", b'{"file": "b.mp4", "caption": "\\ud800"}', "line 1: half a character"),
        ("listing.jsonl", b'{"file": "\xff.mp4"}', "not UTF-8 text"),
        ("listing.jsonl", b'{"file": "b.mp4", "sha256": "beef"}', "line 1: `sha256` must be 64 hexadecimal"),
        ("listing.csv", b"path\nb.mp4\n", "line 2: lacks the column file"),
        ("listing.csv", b"file,caption\nb.mp4,a bee, flying\n", "line 2: more fields than columns"),
        ("listing.csv", b'file,caption\nb.mp4,"a bee\nd.mp4,', "line 2: damaged"),
        ("listing.csv", b"file,captions\nb.mp4,a bee\n", "line 2: `captions` must be a list"),
        ("listing.csv", "file,caption\nb.mp4,Grüße\n".encode("latin-1"), "not UTF-8 text"),
        ("listing.parquet", b"no parquet", "damaged or not a Parquet file"),
    ],
)
def test_a_damaged_listing_is_refused_with_its_line(
    name: str, content: bytes, said: str, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(MobiusError, match=said) as error:
        find_media(folder)
    assert name in str(error.value)


def test_a_listing_may_have_other_columns(folder: Path) -> None:
    """A table that pandas wrote with its index starts with a column without a name."""
    pd.DataFrame([{"file": "b.mp4", "caption": "a bee", "width": 3}]).to_csv(folder / "listing.csv")
    assert captions_of(folder, INGEST) == {"b.mp4": ["a bee"]}


def test_two_listings_are_refused(folder: Path) -> None:
    write(folder, "csv", ROWS)
    write(folder, "jsonl", ROWS)
    with pytest.raises(MobiusError, match=r"holds listing.csv and listing.jsonl. Keep one"):
        find_media(folder)


def test_a_listing_outside_is_not_read(folder: Path, tmp_path: Path) -> None:
    write(folder, "csv", ROWS).rename(tmp_path / "listing.csv")
    (folder / "listing.csv").symlink_to("../listing.csv")
    with pytest.raises(MobiusError, match=r"listing.csv: a link that leads outside"):
        find_media(folder)


def test_a_large_listing_takes_seconds(folder: Path) -> None:
    """30,000 names, 2,000 of which exist: quadratic time would be minutes."""
    for number in range(2_000):
        (folder / f"sub/{number}.mp4").touch()
    rows = [{"file": f"sub/{number}.mp4", "caption": f"number {number}"} for number in range(20_000)]
    write(folder, "jsonl", [*rows, *({"file": f"../{number}.mp4"} for number in range(10_000))])
    start = time.perf_counter()
    found = find_media(folder)
    captions = captions_of(folder, INGEST, found)
    assert time.perf_counter() - start < 10
    assert (len(found.paths), len(found.refused), len(captions)) == (2_000, 28_000, 2_000)
    assert captions["sub/77.mp4"] == ["number 77"]
