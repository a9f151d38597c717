"""Files that players show but a strict reader might reject; `cases/` were made for these tests."""

import shutil
import struct
import tarfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from test_verdicts import verdict

from media.counted import counted, encode, number_of
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.describe import describe
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import MediaError, open_media
from mobius_pipeline.media.write import write_gif

CASES = Path(__file__).with_name("cases")
INGEST = IngestConfig(heldout_share=0.1, files_per_batch=8)
CLIP = ClipFormat(frames=8, height=32, width=32, fps=8)


def frames_of(path: Path) -> tuple[list[float], np.ndarray]:
    """Return the starts (s) and the pixels (N, H, W, 3)."""
    with open_media(path) as media:
        shown = [(frame.start, frame.rgb()) for frame in media.frames]
    return [start for start, _ in shown], np.stack([pixels for _, pixels in shown])


def moves_evenly(pixels: np.ndarray) -> bool:
    """Return whether the pattern moves from each frame to the next, which means that none is missing."""
    changes = np.abs(np.diff(pixels.astype(int), axis=0)).mean((1, 2, 3))
    return bool(changes.min() > 0.8 * np.median(changes) and changes.max() < 1.25 * np.median(changes))


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("cover_first.mkv", 24, (64, 48)),
        ("preview_track_first.mov", 24, (64, 48)),
        ("audio_garbage.mp4", 24, (64, 48)),
        ("audio_garbage.mkv", 24, (64, 48)),
        ("audio_zeros.mp4", 24, (64, 48)),
        ("opengop_h264_cut.mp4", 72, (64, 48)),
        ("opengop_h264_cut.mkv", 72, (64, 48)),
        ("divx_packed.avi", 25, (64, 48)),
        ("webcam_app4.avi", 24, (64, 48)),
        ("webcam_app4.mkv", 24, (64, 48)),
        ("pixelcrop.mkv", 24, (64, 32)),
    ],
)
def test_the_film_is_read(name: str, count: int, size: tuple[int, int]) -> None:
    for _ in range(2):
        starts, pixels = frames_of(CASES / name)
        assert pixels.shape == (count, size[1], size[0], 3)
        assert np.diff(starts) == pytest.approx(1 / 12, abs=2e-3)
        assert moves_evenly(pixels)


@pytest.mark.parametrize(
    ("codec", "options", "suffixes"),
    [
        (
            "libx264",
            {"bf": "3", "g": "12", "x264-params": "b-adapt=0:scenecut=0:open-gop=1"},
            ["mp4", "mkv", "avi"],
        ),
        (
            "libx265",
            {"x265-params": "log-level=0:keyint=12:open-gop=1:bframes=3:b-adapt=0:scenecut=0"},
            ["mp4", "mkv"],
        ),
        ("mpeg2video", {"bf": "2", "g": "12"}, ["mp4", "mkv", "avi"]),
    ],
)
def test_a_cut_inside_an_open_group_begins_at_its_key_frame(
    codec: str, options: dict[str, str], suffixes: list[str], tmp_path: Path
) -> None:
    for suffix in suffixes:
        whole = encode(tmp_path / f"whole.{suffix}", counted(36), codec=codec, **options)
        path = tmp_path / f"cut.{suffix}"
        _copy_from_second_key_frame(whole, path)
        _, pixels = frames_of(path)
        assert [number_of(frame) for frame in pixels] == list(range(12, 36)), suffix


def _copy_from_second_key_frame(source: Path, target: Path) -> None:
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        second = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
        origin = min(packet.pts for packet in packets[second:])
        for packet in packets[second:]:
            packet.pts, packet.stream = packet.pts - origin, stream
            packet.dts = None if packet.dts is None else packet.dts - origin
            written.mux(packet)


@pytest.mark.parametrize("name", ["one_dup_pts.mkv", "one_dup_pts.webm"])
def test_a_frame_that_another_replaces_at_once_is_not_shown(name: str) -> None:
    starts, _ = frames_of(CASES / name)
    assert len(starts) == 23
    assert min(np.diff(starts)) > 0


def test_times_that_go_back_are_refused(tmp_path: Path) -> None:
    """Only a repeated time is accepted."""
    path = encode(
        tmp_path / "clip.mkv", counted(6), [0, 100, 200, 300, 400, 500], time_base=Fraction(1, 1000), bf="0"
    )
    data = path.read_bytes()
    fourth = data.index(struct.pack(">Bh", 0x81, 300))  # of track 1: a block's time from its cluster's, in ms
    path.write_bytes(data[: fourth + 1] + struct.pack(">h", 150) + data[fourth + 3 :])
    assert verdict(path) == "frame 3 is shown before the one before it: write it as MP4 or MKV first"


@pytest.mark.parametrize("delay", [0, 1, 10, 11, 40])
@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_short_delays_are_as_in_browsers(suffix: str, delay: int, tmp_path: Path) -> None:
    """10 ms or less become 100 ms; GIF counts in steps of 10 ms."""
    path = tmp_path / f"clip.{suffix}"
    frames = [Image.fromarray(pixels) for pixels in counted(5)]
    kind = {"gif": "GIF", "webp": "WEBP", "apng": "PNG"}[suffix]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=40, loop=0, **options)
    _ask_for(path, delay)
    starts, pixels = frames_of(path)
    written = delay // 10 * 10 if suffix == "gif" else delay
    expected = (written if written > 10 else 100) / 1000
    assert np.diff(starts) == pytest.approx(expected, abs=1e-3)
    assert [number_of(frame) for frame in pixels] == list(range(5))


def _ask_for(path: Path, delay: int) -> None:
    """Write another delay, in ms, into every frame of a file whose frames ask for 40 ms."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".gif":
        at = data.find(b"\x21\xf9\x04")
        while at >= 0:
            data[at + 4 : at + 6] = struct.pack("<H", delay // 10)
            at = data.find(b"\x21\xf9\x04", at + 8)
    elif path.suffix == ".webp":
        at = data.find(b"ANMF")
        while at >= 0:
            data[at + 20 : at + 23] = delay.to_bytes(3, "little")
            at = data.find(b"ANMF", at + 24)
    else:
        at = data.find(b"fcTL")
        while at >= 0:
            data[at + 24 : at + 28] = struct.pack(">HH", delay, 1000)
            data[at + 30 : at + 34] = struct.pack(">I", zlib.crc32(data[at : at + 30]))
            at = data.find(b"fcTL", at + 34)
    path.write_bytes(data)


def test_a_gif_ends_with_its_last_image(tmp_path: Path) -> None:
    whole = tmp_path / "whole.gif"
    write_gif(whole, counted(12), 12)
    data = whole.read_bytes()
    assert data.endswith(b"\0;")
    for name, ended in {
        "padded": data + bytes(40),
        "followed": data + b"<x:xmpmeta>" * 500,
        "bare": data[:-1],
    }.items():
        path = tmp_path / f"{name}.gif"
        path.write_bytes(ended)
        assert verdict(path) == "12 frames", name
    for bytes_less in (2, 3, 5, 20):
        path = tmp_path / f"{bytes_less}.gif"
        path.write_bytes(data[:-bytes_less])
        assert verdict(path) == "cut off, bytes are missing at its end"


@pytest.mark.parametrize(
    ("name", "codec"), [("drm.m4v", "drmi"), ("unknown_fourcc.avi", "WXYZ"), ("prores_raw.mov", "prores_raw")]
)
def test_codecs_that_cannot_be_read_are_named(name: str, codec: str) -> None:
    (row,) = describe(CASES, name, INGEST, CLIP)
    assert row["status"] == "rejected"
    assert codec in row["reason"]


def test_a_clip_in_a_shard_is_the_same(tmp_path: Path) -> None:
    """The reader of a member cannot use its file name."""
    with tarfile.open(tmp_path / "000.tar", "w") as shard:
        shard.add(CASES / "preview_track_first.mov", "a.mov")
    assert verdict(tmp_path / "000.tar" / "a.mov") == "24 frames"


def test_mp4s_clean_aperture_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "clap.mp4"
    encode(tmp_path / "plain.mp4", counted(6, height=48), bf="0")
    path.write_bytes(_with_clap((tmp_path / "plain.mp4").read_bytes(), 48, 32))
    with open_media(path) as media:
        assert (media.width, media.height) == (48, 32)
    _, pixels = frames_of(path)
    _, stored = frames_of(tmp_path / "plain.mp4")
    assert np.array_equal(pixels, stored[:, 8:40, 8:56])


def _with_clap(data: bytes, width: int, height: int) -> bytes:
    """An MP4 whose `moov` is at its end, with a centred clean aperture (ISO/IEC 14496-12, 12.1.4)."""
    clap = struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    at = data.find(b"avc1", data.rfind(b"stsd")) - 4
    end = at + struct.unpack(">I", data[at : at + 4])[0]
    grown = bytearray(data[:end] + clap + data[end:])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        place = grown.rfind(name, 0, at + 8) - 4
        grown[place : place + 4] = struct.pack(
            ">I", struct.unpack(">I", grown[place : place + 4])[0] + len(clap)
        )
    return bytes(grown)


def test_what_a_reader_raises_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(CASES / "divx_packed.avi", tmp_path)
    monkeypatch.setattr("mobius_pipeline.ingest.describe.open_media", _fails)
    (row,) = describe(tmp_path, "divx_packed.avi", INGEST, CLIP)
    assert row["reason"] == "cannot be read: AttributeError: no attribute"
    assert row["source_sha256"]


def _fails(*_: object) -> None:
    raise AttributeError("no attribute")


def test_no_film_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 44_100
        container.mux([*stream.encode(sound), *stream.encode(None)])
    with pytest.raises(MediaError, match="it holds no video stream"), open_media(tmp_path / "sound.mkv"):
        pass
