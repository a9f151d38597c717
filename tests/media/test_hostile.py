"""Damaged or malicious files: a worker with little memory and time rejects each with a plain reason."""

import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from media.counted import counted, encode
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm, write_webp
from mobius_pipeline.sources.scenes import Scene, render

EXAMINE = Path(__file__).with_name("examine.py")
WRITERS: dict[str, Callable[[Path, np.ndarray, float], None]] = {
    "mp4": write_mp4,
    "webm": write_webm,
    "gif": write_gif,
    "webp": write_webp,
    "mkv": lambda path, frames, fps: encode(path, frames) and None,
    "mov": lambda path, frames, fps: encode(path, frames) and None,  # its index is at its end
}


def examine(
    folder: Path, references: Path | None = None, under: Sequence[str] = ()
) -> tuple[dict[str, Any], float]:
    """Return the result for each file of `folder`, and the growth of the worker's resident memory in MiB."""
    done = subprocess.run(
        [*under, sys.executable, str(EXAMINE), str(folder), *([str(references)] if references else [])],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reported = json.loads(done.stdout)
    return reported["results"], reported["grown_mib"]


def film() -> np.ndarray:
    scene = Scene("cross", "red", "diving", "grey")
    return render(scene, times=[step / 12 for step in range(12)], height=64, width=64)


@pytest.fixture
def wholes(tmp_path: Path) -> Path:
    folder = tmp_path / "wholes"
    folder.mkdir()
    for suffix, write in WRITERS.items():
        write(folder / f"whole.{suffix}", film(), 12)
    return folder


def test_truncated_anywhere(wholes: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.mkdir()
    for whole in wholes.iterdir():
        data = whole.read_bytes()
        shares = [len(data) * share // 100 for share in (10, 25, 50, 75, 90, 99)]
        # All frames of a GIF without its last byte, the trailer, are whole.
        for place in (1, 9, 40, *shares, len(data) - 1 - (whole.suffix == ".gif")):
            (cut / f"{place:06}{whole.suffix}").write_bytes(data[:place])
    (cut / "zero.mp4").touch()
    (cut / "letter.mp4").write_text("Dear reader, this is not a video.")
    results, _ = examine(cut, wholes)
    assert len(results) == 62
    assert {name: result for name, result in results.items() if "reason" not in result} == {}
    assert results["zero.mp4"]["reason"] == "zero.mp4: the file is empty (0 bytes)"
    assert results["letter.mp4"]["reason"] == "letter.mp4: a text file, not a video"
    reported = [result["reason"] for name, result in results.items() if name.endswith(("mp4", "mov"))]
    assert sum(reason.endswith("cut off, bytes are missing at its end") for reason in reported) == 18


# Of 100 files with one bit flipped each, how many may come out visibly wrong without an error: a little more
# than the 1, 2, 43 and 13 that were measured. None of these has a checksum. H.264's syntax breaks, and libvpx
# notices that its coder ran dry; GIF's LZW and WebP's Huffman codes make a picture of almost any bits, and a
# flipped colour of a palette is a colour. What such a file should show only a checksum beside it can tell.
SILENT = {"mp4": 3, "webm": 5, "gif": 48, "webp": 18}


def end_of(result: dict[str, Any]) -> str:
    if "reason" in result:
        return "refused"
    return "close" if result["off"] is not None and result["off"] < 2 else "wrong"


@pytest.mark.parametrize("suffix", SILENT)
def test_a_hundred_flipped_bits(suffix: str, wholes: Path, tmp_path: Path) -> None:
    flipped, references = tmp_path / "flipped", tmp_path / "references"
    flipped.mkdir()
    references.mkdir()
    whole = (wholes / f"whole.{suffix}").rename(references / f"whole.{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    for index in range(100):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        (flipped / f"{index}.{suffix}").write_bytes(data)
    results, _ = examine(flipped, references)
    ends = Counter(end_of(result) for result in results.values())
    assert ends["wrong"] <= SILENT[suffix], ends
    assert ends["refused"] >= 5, ends


def gif(width: int, height: int, frames: int, delay: int = 10) -> bytes:
    """Return a GIF of `frames` one-pixel images on a screen of that size; `delay` in units of 10 ms."""
    image = b"\x21\xf9\x04" + struct.pack("<BHBB", 4, delay, 0, 0)
    image += b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + image * frames + b"\x3b"


def apng(width: int, height: int) -> bytes:
    """Return an APNG with a huge picture, compressed to very few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0))
    animation, data = chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + header + animation + control + data


def webp(width: int, height: int, frames: int, duration: int) -> bytes:
    """Return an animated WebP with that canvas size in its header, and empty frames."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data

    head = b"\x02\0\0\0" + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = bytes(12) + struct.pack("<I", duration)
    body = b"WEBP" + chunk(b"VP8X", head) + chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", frame) * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def patched(path: Path, kind: bytes, offset: int, value: bytes) -> None:
    """Overwrite bytes of the first MP4 box of that kind."""
    data = bytearray(path.read_bytes())
    place = data.index(kind) + 4 + offset
    data[place : place + len(value)] = value
    path.write_bytes(data)


def test_bombs_are_refused_before_they_unfold(tmp_path: Path) -> None:
    wide = np.zeros((2, 2048, 3000, 3), np.uint8)
    encode(tmp_path / "wide.mp4", wide, preset="ultrafast")
    encode(tmp_path / "wide.webm", wide, codec="libvpx-vp9", deadline="realtime")
    (tmp_path / "wide.gif").write_bytes(gif(65535, 65535, 3))
    (tmp_path / "wide.webp").write_bytes(webp(16384, 16384, 3, 100))
    (tmp_path / "wide.apng").write_bytes(apng(60000, 60000))
    encode(tmp_path / "long.mp4", counted(4), [0, 1, 2, 90_000])
    encode(tmp_path / "long.mkv", counted(4), [0, 1, 2, 90_000])
    (tmp_path / "long.gif").write_bytes(gif(8, 8, 20, 65535))
    (tmp_path / "long.webp").write_bytes(webp(8, 8, 20, 10_000_000))
    (tmp_path / "many.gif").write_bytes(gif(8, 8, 1_000_000, 2))
    (tmp_path / "many.webp").write_bytes(webp(8, 8, 5000, 20))
    encode(tmp_path / "stretched.mp4", wide[:, :1000], preset="ultrafast", pixel_aspect=Fraction(2))
    results, grown_mib = examine(tmp_path)
    reasons = {name: result.get("reason", "") for name, result in results.items()}
    for name, reason in reasons.items():
        expected = {"long": "longer than 600 s", "many": "more than 2,000 frames"}
        reported = expected.get(name.partition(".")[0], "has more than 4,000,000 pixels")
        assert reported in reason or (name == "wide.apng" and reason), (
            name,
            reason,
        )  # FFmpeg gives no reason
    assert grown_mib < 200


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXTINF:1,\n{canary}\n#EXT-X-ENDLIST\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{canary}'\n",
    "concat.gif": "ffconcat version 1.0\nfile '{url}'\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "image.svg.mp4": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    "frame%03d.mp4": "data:video/mp4;base64,AAAA {url}",
}


@pytest.fixture
def callbacks() -> Any:
    """A TCP port that counts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_nothing_else_is_opened(callbacks: Any, tmp_path: Path) -> None:
    folder, canary = tmp_path / "in", tmp_path / "canary.mp4"
    folder.mkdir()
    encode(canary, counted(6))
    port = callbacks.getsockname()[1]
    for name, text in PLAYLISTS.items():
        url = f"http://127.0.0.1:{port}/x.mp4"
        (folder / name).write_text(text.format(canary=canary, url=url, port=port))
    encode(folder / "elsewhere.mov", counted(6))
    patched(folder / "elsewhere.mov", b"dref", 8, struct.pack(">I4sI", 12, b"alis", 0))
    results, _ = examine(folder)
    assert [name for name, result in results.items() if "reason" not in result] in ([], ["elsewhere.mov"])
    with pytest.raises(BlockingIOError):
        callbacks.accept()


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="strace shows which files are opened")
def test_no_file_beside_is_opened(tmp_path: Path) -> None:
    folder, canary, log = tmp_path / "in", tmp_path / "canary.mp4", tmp_path / "log"
    folder.mkdir()
    encode(canary, counted(6))
    for name, text in PLAYLISTS.items():
        (folder / name).write_text(text.format(canary=canary, url=f"file:{canary}", port=9))
    command = ["strace", "-f", "-qq", "-e", "trace=openat,open,connect", "-o", str(log)]
    done = subprocess.run(
        [*command, sys.executable, str(EXAMINE), str(folder)], capture_output=True, timeout=60, check=False
    )
    if b"ptrace" in done.stderr:
        pytest.skip("strace is not allowed here")
    seen = log.read_text()
    assert "concat.mp4" in seen
    assert "canary" not in seen
    assert "connect(" not in seen


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.mp4"))
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    results, _ = examine(tmp_path)
    assert {name: result["reason"].partition(": ")[2] for name, result in results.items()} == {
        "pipe.mp4": "not a regular file",
        "s.mp4": "cannot be opened (No such device or address)",
        "gone.mp4": "there is no such file",
        "device.mp4": "not a regular file",
    }


def test_an_index_that_promises_more_is_named(tmp_path: Path) -> None:
    """The index declares twelve samples, the last of them empty: FFmpeg reports nothing."""
    path = encode(tmp_path / "clip.mp4", counted(12), bf="0")
    patched(path, b"stsz", 12 + 11 * 4, bytes(4))
    (result,) = examine(tmp_path)[0].values()
    assert result == {"reason": "clip.mp4: damaged: its index lists 12 frames, but only 11 can be decoded"}


def test_unreadable(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "clip.gif")
    (tmp_path / "clip.gif").chmod(0)
    as_anyone = ["setpriv", "--bounding-set=-all"] if os.getuid() == 0 else []  # root may read everything
    (result,) = examine(tmp_path, under=as_anyone)[0].values()
    assert result == {"reason": "clip.gif: no permission to read it"}
