"""Tar shards in WebDataset's layout: clips with their captions, and no access outside the shard."""

import io
import json
import logging
import tarfile
from pathlib import Path

import pytest

from ingested import captions_of
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.sources import find_media

INGEST = IngestConfig(heldout_share=0.5, files_per_batch=4)


def shard(path: Path, members: dict[str, bytes | str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def captions(folder: Path) -> dict[str, list[str]]:
    return captions_of(folder, INGEST)


def test_members_of_a_key_belong_together(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    members = {
        "./0001.mp4": b"\0",
        "./0001.txt": "a cat\nit sleeps\n",
        "a/0002.json": json.dumps({"caption": "a dog", "captions": ["it runs", "a dog"], "width": 3}),
        "a/0002.left.webm": b"\0",
        "a/0002.right.WEBM": b"\0",
        "0002.gif": b"\0",
        "0003.gif": b"\0",
        "0003.cls": "walking\n",
        ".0004.mp4": b"\0",
        "notes": "no clip",
    }
    shard(tmp_path / "shards/000.tar", members)
    found = find_media(tmp_path)
    assert found.refused == {}
    assert found.paths == [
        f"shards/000.tar/{name}"
        for name in ("0001.mp4", "0002.gif", "0003.gif", "a/0002.left.webm", "a/0002.right.WEBM")
    ]
    assert captions_of(tmp_path, INGEST, found) == {
        "shards/000.tar/0001.mp4": ["a cat", "it sleeps"],
        "shards/000.tar/0003.gif": ["walking"],
        "shards/000.tar/a/0002.left.webm": ["a dog", "it runs"],
        "shards/000.tar/a/0002.right.WEBM": ["a dog", "it runs"],
    }


def test_members_that_lead_out_are_rejected(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", {"/etc/a.mp4": b"\0", "../b.mp4": b"\0", "x/../../c.mp4": b"\0"})
    with tarfile.open(path, "a") as tar:
        for name, kind in {
            "soft.mp4": tarfile.SYMTYPE,
            "hard.mp4": tarfile.LNKTYPE,
            "dev.mp4": tarfile.CHRTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        link = tarfile.TarInfo("good.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        good = tarfile.TarInfo("good.mp4")
        good.size = 1
        tar.addfile(good, io.BytesIO(b"\0"))
    found = find_media(tmp_path)
    assert found.paths == ["s.tar/good.mp4"]
    assert captions(tmp_path) == {}
    reasons = {name: reason.split(",")[0] for name, reason in found.refused.items()}
    outside, link = "its name leads out of the archive", "a link"
    assert reasons == {
        "s.tar//etc/a.mp4": outside,
        "s.tar/../b.mp4": outside,
        "s.tar/x/../../c.mp4": outside,
        "s.tar/soft.mp4": link,
        "s.tar/hard.mp4": link,
        "s.tar/dev.mp4": "not a regular file",
        "s.tar/good.txt": link,
    }


def test_a_name_that_stands_twice_is_rejected_and_no_other(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", {"1.mp4": b"\0", "2.mp4": b"\0"})
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("./1.mp4"))
    found = find_media(tmp_path)
    assert found.paths == ["s.tar/2.mp4"]
    assert "more than once" in found.refused["s.tar/1.mp4"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"Dear reader, this is not a shard. " * 40, "not a plain tar archive"),
        (b"\0" * 1024, "holds no clips"),
    ],
)
def test_what_is_no_shard_is_rejected(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(content)
    found = find_media(tmp_path)
    assert found.paths == []
    assert reason in found.refused["s.tar"]


def test_a_compressed_shard_is_rejected(tmp_path: Path) -> None:
    shard(tmp_path / "s.tar", {"1.mp4": b"\0"}, "w:gz")
    assert "not a plain tar archive" in find_media(tmp_path).refused["s.tar"]


def many(tmp_path: Path) -> bytes:
    return shard(tmp_path / "s.tar", {f"{number}.mp4": bytes(700) for number in range(9)}).read_bytes()


@pytest.mark.parametrize("kept", [400, 512 * 7, 512 * 7 + 40, 512 * 8 + 1])
def test_a_shard_that_is_cut_off_keeps_what_comes_before(kept: int, tmp_path: Path) -> None:
    """Each member takes a header and two blocks of content."""
    (tmp_path / "s.tar").write_bytes(many(tmp_path)[:kept])
    found = find_media(tmp_path)
    whole = [f"s.tar/{number}.mp4" for number in range(kept // (512 * 3))]
    assert found.paths[: len(whole)] == whole
    assert len(found.paths) <= len(whole) + 1  # the decoder refuses the truncated member
    assert "s.tar" in found.refused


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(many(tmp_path))
    data[512 * 12 + 20] ^= 0xFF  # in the fifth member's name: its checksum fails
    (tmp_path / "s.tar").write_bytes(data)
    found = find_media(tmp_path)
    assert len(found.paths) == 4
    assert "no header at byte 6,144" in found.refused["s.tar"]


@pytest.mark.parametrize("size", [-1, -1024, -1 << 40])
def test_a_negative_size_does_not_lead_round_and_round(size: int, tmp_path: Path) -> None:
    info = tarfile.TarInfo("1.mp4")
    info.size = size
    (tmp_path / "s.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    found = find_media(tmp_path)
    assert found.paths == []
    assert "negative" in found.refused["s.tar"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1.txt", b"\xff\xfe"),
        ("1.txt", b"a" * (1 << 20) + b"b"),
        ("1.json", b"{damaged"),
        ("1.json", b'["a list"]'),
        ("1.json", b'{"caption": 3}'),
        ("1.json", b'{"caption": "\\ud800"}'),
        ("1.json", b"[" * 100_000),
    ],
)
def test_texts_that_cannot_be_used_are_counted(
    name: str, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard(tmp_path / "s.tar", {"1.mp4": b"\0", name: content, "2.mp4": b"\0", "2.txt": "fine"})
    with caplog.at_level(logging.WARNING):
        assert captions(tmp_path) == {"s.tar/2.mp4": ["fine"]}
    assert "1 text members of tar shards cannot be used" in caplog.text
    assert f"s.tar/{name}" in caplog.text
