"""A malicious archive costs neither memory nor time, and no good member is lost."""

import io
import random
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.tar import index
from mobius_pipeline.media.write import write_gif
from probing import probe

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_members_are_found_where_they_lie(tmp_path: Path) -> None:
    members = {"./a.mp4": b"first", "b/" + "long name " * 20 + ".mp4": b"second", "été.mp4": b"third"}
    path = archive(tmp_path / "s.tar", members)
    found, data = index(path), path.read_bytes()
    assert (found.refused, found.damage) == ({}, "")
    assert {name: data[offset : offset + size] for name, (offset, size) in found.members.items()} == {
        name.removeprefix("./"): content for name, content in members.items()
    }


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_asks_for_gigabytes_gets_none(kind: bytes, tmp_path: Path) -> None:
    """The file is as long as its header says, but sparse: it needs no disk space."""
    info = tarfile.TarInfo("huge")
    info.type, info.size = kind, 4 << 30
    with (tmp_path / "s.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(5 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "a header of more than 1,048,576 bytes" in index(tmp_path / "s.tar").damage
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_headers_about_headers_end_somewhere(tmp_path: Path) -> None:
    info = tarfile.TarInfo("again")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 6
    (tmp_path / "s.tar").write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"again".ljust(512, b"\0")) * 2000)
    assert "recursion" in index(tmp_path / "s.tar").damage


def test_whatever_bytes_are_altered_there_is_an_answer(tmp_path: Path) -> None:
    names = [f"{number} {'long ' * 30}é.mp4" for number in range(4)]
    data = archive(tmp_path / "s.tar", dict.fromkeys(names, b"content")).read_bytes()[: 26 * 512]
    rng = random.Random(0)
    for _ in range(400):
        altered = bytearray(data)
        for _ in range(5):
            altered[rng.randrange(len(altered))] = rng.randrange(256)
        (tmp_path / "s.tar").write_bytes(altered)
        found = index(tmp_path / "s.tar")
        assert all(0 <= offset <= offset + size <= len(data) for offset, size in found.members.values())
        assert found.damage or found.members.keys() | found.refused.keys()


def test_a_clip_is_read_from_its_place(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", FRAMES, 10)
    clip = (tmp_path / "a.gif").read_bytes()
    archive(tmp_path / "s.tar", {"./x/a.gif": clip, "b.gif": clip})
    assert probe(tmp_path / "s.tar/x/a.gif") == probe(tmp_path / "s.tar/b.gif") == probe(tmp_path / "a.gif")
    cut = sum(index(tmp_path / "s.tar").members["b.gif"]) - 1
    (tmp_path / "s.tar").write_bytes((tmp_path / "s.tar").read_bytes()[:cut])
    assert probe(tmp_path / "s.tar/x/a.gif") == probe(tmp_path / "a.gif")
    with pytest.raises(MediaError, match="cut off"):
        probe(tmp_path / "s.tar/b.gif")
