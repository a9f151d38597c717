"""Clips that are not plain files: members of tar shards and folders of numbered images."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media.counted import counted, encode, number_of
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import MediaError, open_media
from mobius_pipeline.media.open_source import members_of, open_bytes
from mobius_pipeline.media.write import write_gif, write_webp
from probing import probe

SIZE = ClipFormat(frames=6, height=32, width=64, fps=6)


def numbers(path: Path) -> list[int]:
    with open_media(path) as media:
        return [number_of(frame.rgb()) for frame in media.frames]


def make_shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard of three clips, each the same film in another container, and a caption."""
    frames = counted(24)
    encode(tmp_path / "a.mp4", frames)
    write_gif(tmp_path / "a.gif", frames, 12)
    write_webp(tmp_path / "a.webp", frames, 12)
    files = {f"set/{name}": (tmp_path / name).read_bytes() for name in ("a.mp4", "a.gif", "a.webp")}
    return make_shard(tmp_path / "000.tar", {**files, "set/a.txt": b"a film"})


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp"])
def test_a_member_is_its_file(name: str, shard: Path) -> None:
    member, file = shard / "set" / name, shard.parent / name
    assert open_bytes(member).read() == file.read_bytes()
    assert probe(member) == probe(file)
    assert (load_clip(member, SIZE) == load_clip(file, SIZE)).all()
    assert numbers(Path(f"{member}#t=0.5,0.75")) == [6, 7, 8]


def test_a_slice_reads_like_a_file(shard: Path) -> None:
    with open_bytes(shard / "set/a.txt") as file:
        assert file.read(3) == b"a f"
        assert file.seek(-2, os.SEEK_END) == 4
        assert (file.read(), file.read(), file.tell()) == (b"lm", b"", 6)
        file.seek(-4, os.SEEK_CUR)
        assert file.read(100) == b"film"


def test_a_changed_shard_is_read_again(tmp_path: Path) -> None:
    make_shard(tmp_path / "x.tar", {"1.txt": b"one"})
    assert open_bytes(tmp_path / "x.tar/1.txt").read() == b"one"
    make_shard(tmp_path / "x.tar", {"0.txt": b"zero", "1.txt": b"new one"})
    assert open_bytes(tmp_path / "x.tar/1.txt").read() == b"new one"


@pytest.mark.parametrize("member", ["../outside.mp4", "/etc/passwd", "a/../../outside.mp4"])
def test_names_that_lead_out_are_refused(member: str, tmp_path: Path) -> None:
    encode(tmp_path / "outside.mp4", counted(12))
    path = make_shard(tmp_path / "x.tar", {member: (tmp_path / "outside.mp4").read_bytes()})
    assert members_of(path).refused == {member: "its name leads out of the archive"}
    with pytest.raises(MediaError, match=r"no such member|leads out of the archive"):
        probe(Path(f"{path}/{member}"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_shard_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        entry = tarfile.TarInfo("clip.mp4")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(MediaError, match=r"clip.mp4: (a link|not a regular file)"):
        probe(tmp_path / "x.tar/clip.mp4")


def test_a_cut_shard_names_what_it_lacks(shard: Path) -> None:
    whole = shard.read_bytes()
    at, size = members_of(shard).members["set/a.webp"]
    shard.write_bytes(whole[: at + size // 2])
    assert numbers(shard / "set/a.gif") == list(range(24))
    assert set(members_of(shard).refused) == {"set/a.webp"}
    assert "damaged (unexpected end of data)" in members_of(shard).damage
    with pytest.raises(MediaError, match="cut off: the archive ends before it does"):
        probe(shard / "set/a.webp")


def test_what_is_no_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(MediaError, match=r"a.mp4: x.tar is not a plain tar archive, or damaged"):
        probe(tmp_path / "x.tar/a.mp4")
    make_shard(tmp_path / "y.tar", {"1.txt": b"one"})
    with pytest.raises(MediaError, match=r"a.mp4: there is no such member in y.tar"):
        probe(tmp_path / "y.tar/a.mp4")


def make_sequence(folder: Path, frames: np.ndarray, first: int = 0, name: str = "{}.png") -> Path:
    folder.mkdir()
    for index, pixels in enumerate(frames, first):
        Image.fromarray(pixels).save(folder / name.format(index))
    (folder / "sequence.json").write_text(json.dumps({"fps": 12}))
    return folder


@pytest.mark.parametrize("name", ["{}.png", "shot7_{:04d}.jpg", "frame {}.bmp", "x{}.webp"])
def test_images_are_a_clip_by_their_numbers(name: str, tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "shot", counted(24), first=5, name=name)
    (folder / "caption.txt").write_text("counting")
    assert numbers(folder) == list(range(24))
    found = probe(folder)
    assert (found.frames, found.width, found.height, found.fps, found.duration_s) == (24, 64, 32, 12, 2)
    assert (found.container, found.codec) == ("images", name.rpartition(".")[2])
    assert [number_of(frame) for frame in load_clip(folder, SIZE)] == [0, 2, 4, 6, 8, 10]
    assert numbers(Path(f"{folder}#t=0.333333,0.583333")) == [4, 5, 6]


def test_sequences_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "shot", counted(8))
    rate = folder / "sequence.json"
    for content, reason in [
        ("{}", r'sequence.json must have the form {"fps": 24}'),
        ("24", r'sequence.json must have the form {"fps": 24}'),
        ('{"fps": "fast"}', "gives 'fast' frames a second"),
        ('{"fps": 0}', "must be a number above 0"),
        ('{"fps": Infinity}', "must be a number above 0"),
    ]:
        rate.write_text(content)
        with pytest.raises(MediaError, match=reason):
            probe(folder)
    rate.unlink()
    with pytest.raises(
        MediaError, match=r'shot: its frame rate is unknown: write it .*, such as {"fps": 24}'
    ):
        probe(folder)


def test_images_that_make_no_clip_say_why(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "shot", counted(8))

    def refused(reason: str) -> None:
        with pytest.raises(MediaError, match=reason):
            probe(folder)

    (folder / "5.png").rename(folder / "9.png")
    refused(r"shot: image number 5 is missing \(they go from 0 to 9\)")
    (folder / "9.png").rename(folder / "5.png")
    (folder / "005.png").write_bytes((folder / "5.png").read_bytes())
    refused("005.png and 5.png have the same number")
    (folder / "005.png").unlink()
    Image.new("RGB", (62, 32)).save(folder / "8.png")
    refused(r"8.png has 62 x 32 px, 0.png 64 x 32")
    Image.new("I;16", (64, 32)).save(folder / "8.png")
    refused("8.png has more than 8 bits per channel")
    (folder / "8.png").write_bytes((folder / "7.png").read_bytes()[:80])
    refused("shot: damaged")
    (folder / "8.png").unlink()
    for target in (tmp_path, tmp_path / "nowhere", Path("/dev/zero")):
        (folder / "8.png").symlink_to(target)
        refused("8.png is not a regular file or a link to one")
        (folder / "8.png").unlink()
    (folder / "8.png").symlink_to("7.png")
    assert probe(folder).frames == 9
    (folder / "8.png").unlink()
    (folder / "title.png").write_bytes((folder / "7.png").read_bytes())
    refused("title.png has no number in its name")


def test_an_empty_folder_is_no_clip(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="a folder with 0 numbered images, not a clip"):
        probe(tmp_path)
