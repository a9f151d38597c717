"""Which files below a folder are clips, and which are never opened."""

import logging
import os
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingested import captions_of, ingested
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.sources import find_media
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif, write_mp4, write_webp
from mobius_pipeline.runtime.errors import MobiusError
from probing import probe

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
INGEST = IngestConfig(heldout_share=0.5, files_per_batch=4)
SECRET = "what only the owner may read"


def stills(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, FRAMES, strict=False):
        Image.fromarray(frame).save(folder / name)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that must not be read, with a clip and a text in it."""
    (tmp_path / "outside").mkdir()
    write_gif(tmp_path / "outside/clip.gif", FRAMES, 8)
    (tmp_path / "outside/clip.txt").write_text(SECRET)
    return tmp_path / "outside"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    write_gif(tmp_path / "clips/good.gif", FRAMES, 8)
    return tmp_path / "clips"


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Run as nobody, because root may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_every_kind_of_media_is_found(folder: Path) -> None:
    names = [f"a/b.{suffix}" for suffix in ("mp4", "m4v", "MOV", "mkv", "webm", "avi", "apng", "png", "webp")]
    (folder / "a").mkdir()
    for name in names:
        (folder / name).write_bytes(b"\0")
    assert find_media(folder).paths == sorted([*names, "good.gif"])


def test_a_folder_of_numbered_pictures_is_one_clip(folder: Path) -> None:
    stills(folder / "shots/take.1", ["f_001.png", "f_002.PNG", "f_003.png", "cover.jpg"])
    (folder / "shots/take.1/sequence.json").write_text('{"fps": 24}')
    found = find_media(folder)
    assert (found.paths, found.refused) == (["good.gif", "shots/take.1"], {})


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"])
def test_pictures_without_a_rate_are_rejected_with_the_mend(suffix: str, folder: Path) -> None:
    stills(folder / "shots", [f"{number}.{suffix}" for number in range(3)])
    found = find_media(folder)
    assert found.paths == ["good.gif"]
    assert 'Write sequence.json beside them, for instance {"fps": 24}' in found.refused["shots"]


def test_pictures_that_are_cut_off_are_pictures(folder: Path) -> None:
    (folder / "shots").mkdir()
    for name in ("1.webp", "2.webp"):
        (folder / "shots" / name).write_bytes(b"RIFF....WEBPVP8X")
    assert list(find_media(folder).refused) == ["shots"]


def test_pictures_at_the_top_are_rejected_with_the_mend(folder: Path) -> None:
    (folder / "good.gif").unlink()
    stills(folder, ["1.png", "2.png"])
    assert "Move them into a subfolder" in find_media(folder).refused["."]


def test_numbered_animations_are_clips_of_their_own(folder: Path) -> None:
    """A folder of `clip-1.webp`, `clip-2.webp` or APNG is not a sequence of stills."""
    for number in range(3):
        write_webp(folder / f"clip-{number}.webp", FRAMES, 8)
    (folder / "animated").mkdir()
    images = [Image.fromarray(frame) for frame in FRAMES]
    for number in range(2):
        images[0].save(folder / f"animated/{number}.png", save_all=True, append_images=images[1:])
    found = find_media(folder)
    names = ["animated/0.png", "animated/1.png", *(f"clip-{number}.webp" for number in range(3)), "good.gif"]
    assert (found.paths, found.refused) == (names, {})


def test_thumbnails_beside_clips_are_no_sequence(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    stills(folder, ["1.jpg", "2.jpg"])
    found = find_media(folder)
    assert (found.paths, found.refused) == (["good.gif"], {})
    assert "{'.jpg': 2}" in caplog.text


def test_what_is_found_can_be_read(folder: Path) -> None:
    """Finding clips and decoding them agree on names."""
    stills(folder / "shots/0001", [f"f{number}.png" for number in range(4)])
    (folder / "shots/0001/sequence.json").write_text('{"fps": 8}')
    with tarfile.open(folder / "shard.tar", "w") as tar:
        tar.add(folder / "good.gif", "./a/0001.gif")
    (folder / "link.gif").symlink_to("good.gif")
    found = find_media(folder)
    assert found.paths == ["good.gif", "link.gif", "shard.tar/a/0001.gif", "shots/0001"]
    assert [probe(folder / path).frames for path in found.paths] == [4, 4, 4, 4]


def test_nothing_outside_is_opened(folder: Path, outside: Path) -> None:
    links = {
        "absolute.gif": outside / "clip.gif",
        "relative.gif": Path("../outside/clip.gif"),
        "twice.gif": Path("relative.gif"),
        "linked": outside,
        "shard.tar": outside / "shard.tar",
        "up": Path(".."),
    }
    (outside / "shard.tar").write_bytes(b"")
    for name, target in links.items():
        (folder / name).symlink_to(target)
    found = find_media(folder)
    assert found.paths == ["good.gif"]
    assert found.refused.keys() == links.keys()
    assert all("leads outside" in reason for reason in found.refused.values())


def test_a_picture_that_leads_outside_rejects_its_sequence(folder: Path, outside: Path) -> None:
    stills(folder / "shots", ["1.png", "2.png"])
    (folder / "shots/sequence.json").write_text('{"fps": 24}')
    stills(outside, ["3.png"])
    (folder / "shots/3.png").symlink_to(outside / "3.png")
    found = find_media(folder)
    assert found.paths == ["good.gif"]
    assert list(found.refused) == ["shots"]
    assert "shots/3.png: a link that leads outside" in found.refused["shots"]


def test_links_within_the_folder_are_files_and_no_second_folders(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/again.gif").symlink_to("../good.gif")
    (folder / "sub/round").symlink_to("..")
    (folder / "broken.gif").symlink_to("gone.gif")
    (folder / "itself.gif").symlink_to("itself.gif")
    found = find_media(folder)
    assert found.paths == ["good.gif", "sub/again.gif"]
    assert "a link to a folder" in found.refused["sub/round"]
    assert "a broken link" in found.refused["broken.gif"]
    assert "a broken link" in found.refused["itself.gif"]


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert find_media(tmp_path / "link").paths == ["good.gif"]


def test_what_is_no_file_is_not_opened(folder: Path) -> None:
    """Opening a pipe without a writer would hang."""
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket.mp4"))
    (folder / "zero.mp4").symlink_to("/dev/zero")
    found = find_media(folder)
    assert found.paths == ["good.gif"]
    assert "a pipe, a socket or a device" in found.refused["pipe.mp4"]
    assert "a pipe, a socket or a device" in found.refused["socket.mp4"]
    assert "leads outside" in found.refused["zero.mp4"]


def test_names_that_no_table_can_hold_are_rejected(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.gif")).write_bytes(b"\0")
    os.mkdir(os.fsencode(folder) + b"/d\xe9but")  # noqa: PTH102 (a path of bytes)
    found = find_media(folder)
    assert found.paths == ["good.gif"]
    assert found.refused == dict.fromkeys(
        ["caf\\xe9.gif", "d\\xe9but"],
        "its name is not UTF-8 text. Rename it; DVC refuses the whole folder because of it.",
    )


def test_what_is_closed_becomes_a_row(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_gif(folder / "good.gif", FRAMES, 8)
        (folder / "closed").mkdir()
        (folder / "closed/clip.gif").write_bytes(b"\0")
        (folder / "shard.tar").write_bytes(b"\0")
        (folder / "shard.tar").chmod(0)
        (folder / "good.txt").write_text("closed too")
        (folder / "good.txt").chmod(0)
        (folder / "closed").chmod(0)
        with bound_by_permissions():
            found = find_media(folder)
            captions = captions_of(folder, INGEST, found)
        (folder / "closed").chmod(0o755)
    assert found.paths == ["good.gif"]
    assert found.refused == dict.fromkeys(["closed", "shard.tar"], "cannot be read: Permission denied")
    assert captions == {}
    assert "good.txt gives its clip no caption: Permission denied" in caplog.text


def test_hidden_files_are_passed_over_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / ".hidden.gif").write_bytes(b"\0")
    (folder / ".trash").mkdir()
    (folder / ".trash/old.gif").write_bytes(b"\0")
    with caplog.at_level(logging.INFO):
        assert find_media(folder).paths == ["good.gif"]
    assert "2 hidden" in caplog.text


def test_rejected_sources_are_rows_of_the_table(folder: Path, outside: Path, tmp_path: Path) -> None:
    (folder / "out.gif").symlink_to(outside / "clip.gif")
    write_mp4(folder / "film.mp4", FRAMES, 8)
    table = ingested(
        folder,
        INGEST,
        ClipFormat(frames=2, height=16, width=16, fps=8),
        tmp_path / "work",
    ).set_index("path")
    assert table["status"].to_dict() == {"film.mp4": "ok", "good.gif": "ok", "out.gif": "rejected"}
    assert "leads outside" in table["reason"]["out.gif"]
    assert SECRET not in table.to_json()


def test_a_file_for_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(MobiusError, match="no clips in"):
        find_media(folder / "good.gif")
