"""Frames look as in a player: pixel aspect, rotation, fields, depth, range, matrix, HDR, alpha."""

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from media.counted import counted, encode, number_of
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import MediaError, open_media
from mobius_pipeline.media.write import write_mp4
from probing import probe

RED = (220, 30, 40)


def shown(path: Path, **options: Any) -> np.ndarray:
    with open_media(path, **options) as media:
        return np.stack([frame.rgb() for frame in media.frames])


def plain(colour: tuple[int, int, int], count: int = 4, height: int = 32, width: int = 64) -> np.ndarray:
    return np.full((count, height, width, 3), colour, np.uint8)


def encode_yuv(path: Path, planes: np.ndarray, pix_fmt: str, count: int = 4, **colour: int) -> Path:
    """Write the same frame several times, lossless, with its colour by the numbers of ISO/IEC 23091-2."""
    codec = "libx265" if "10" in pix_fmt else "libx264"
    options = {"x265-params": "lossless=1:log-level=0"} if codec == "libx265" else {"qp": "0"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=12, options={"threads": "1", **options})
        stream.height, stream.width, stream.pix_fmt = len(planes) * 2 // 3, planes.shape[1], pix_fmt
        for name, value in colour.items():
            setattr(stream.codec_context, name, value)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(planes, format=pix_fmt)
            for name, value in colour.items():
                setattr(frame, name, value)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def yuv(luma: int, blue: int, red: int, depth: int = 8, height: int = 64, width: int = 64) -> np.ndarray:
    """A plain 4:2:0 frame: planes one below the other."""
    planes = np.full((height * 3 // 2, width), luma, np.uint8 if depth == 8 else np.uint16)
    planes[height : height * 5 // 4], planes[height * 5 // 4 :] = blue, red
    return planes


@pytest.mark.parametrize(("aspect", "width"), [("2", 128), ("1/2", 32), ("16/15", 68)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixels_become_square(aspect: str, width: int, suffix: str, tmp_path: Path) -> None:
    path = encode(tmp_path / f"clip.{suffix}", counted(12), pixel_aspect=Fraction(aspect))
    found = probe(path)
    assert (found.width, found.height) == (width, 32)
    frames = shown(path)
    assert frames.shape == (12, 32, width, 3)
    assert [number_of(frame) for frame in frames] == list(range(12))


TURNS = {  # a, b, c, d of the display matrix, and what it does to an array
    "right": ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
    "left": ((0, -1, 1, 0), lambda pixels: np.rot90(pixels, 1)),
    "about": ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda pixels: pixels[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda pixels: pixels[::-1]),
    "transposed": ((0, 1, 1, 0), lambda pixels: pixels.swapaxes(0, 1)),
}


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write a display matrix (ISO/IEC 14496-12, 8.3.2, version 0), entries in 1/65,536."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("turn", TURNS)
def test_turns_and_mirrors(turn: str, tmp_path: Path) -> None:
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:16, :24], frame[:16, 24:] = 255, (255, 0, 0)
    path = tmp_path / "clip.mp4"
    write_mp4(path, np.stack([frame] * 4), 8)
    entries, expected = TURNS[turn]
    set_matrix(path, *(entry << 16 for entry in entries))
    with open_media(path) as media:
        first = next(media.frames).rgb()
        assert first.shape == (media.height, media.width, 3)
    assert np.abs(first.astype(int) - expected(frame)).mean() < 12


def test_a_slant_is_refused(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", plain(RED), 8)
    set_matrix(tmp_path / "clip.mp4", 46341, 46341, -46341, 46341)
    with pytest.raises(MediaError, match="not a multiple of 90 degrees"):
        probe(tmp_path / "clip.mp4")


def test_fields_are_deinterlaced_in_place(tmp_path: Path) -> None:
    """A bar moves from field to field: no frame may show it twice, and each keeps its time."""
    fields = np.zeros((24, 64, 96, 3), np.uint8)
    for step, field in enumerate(fields):
        field[:, step * 3 : step * 3 + 12] = 255
    woven = fields[1::2].copy()
    woven[:, 1::2] = fields[::2, 1::2]  # the lower field comes first
    path = encode(tmp_path / "clip.mp4", woven, crf="4", bf="2", **{"x264-params": "bff=1"})
    with open_media(path) as media:
        frames = [(frame.start, frame.rgb().astype(int)) for frame in media.frames]
    assert [start for start, _ in frames] == pytest.approx([step / 12 for step in range(12)])

    def combing(pixels: np.ndarray) -> float:
        return float(np.abs(pixels[1:-1] - (pixels[:-2] + pixels[2:]) / 2).mean())

    assert np.mean([combing(pixels) for _, pixels in frames]) < combing(woven[5].astype(int)) / 4
    centres = [np.average(np.arange(96), weights=pixels[..., 1].sum(axis=0)) for _, pixels in frames]
    assert centres == pytest.approx([step * 6 + 5.5 for step in range(12)], abs=1.6)
    segment = Path(f"{path}#t=0.5,0.75")
    assert (shown(segment) == np.stack([pixels for _, pixels in frames[6:9]])).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_a_background_can_be_chosen(suffix: str, tmp_path: Path) -> None:
    images = [Image.new("RGBA", (32, 32), (0, 0, 0, 0)) for _ in range(8)]
    for index, image in enumerate(images):
        image.paste((200, 0, 0, 255), (index, 8, index + 8, 24))
    kind = "PNG" if suffix == "apng" else suffix.upper()
    options: dict[str, Any] = {"webp": {"lossless": True}, "gif": {"disposal": 2}}.get(suffix, {})
    path = tmp_path / f"clip.{suffix}"
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=125, loop=0, **options)
    size = ClipFormat(frames=8, height=32, width=32, fps=8)
    assert (load_clip(path, size)[:, 0, 0] == 255).all()
    green = load_clip(path, size.model_copy(update={"background": (0, 255, 10)}))
    assert (green[:, 0, 0] == (0, 255, 10)).all()
    assert np.abs(green[3, 16, 5].astype(int) - (200, 0, 0)).max() < 8


def test_transparency_that_would_be_lost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=12)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        for pixels in counted(4):
            rgba = np.dstack([pixels, np.full((32, 64), 9, np.uint8)])
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p"))
            )
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="with transparency are not read: compose it"):
        probe(path)


@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_the_files_own_matrix_is_used(matrix: int, tmp_path: Path) -> None:
    """A saturated red by the matrices of BT.709, BT.601 and BT.2020: mixing them up is off by 20 levels."""
    weights = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    of_red, of_blue = weights
    luma = of_red * RED[0] + (1 - of_red - of_blue) * RED[1] + of_blue * RED[2]
    blue, red = (RED[2] - luma) / (2 - 2 * of_blue), (RED[0] - luma) / (2 - 2 * of_red)
    planes = yuv(round(16 + luma * 219 / 255), round(128 + blue * 224 / 255), round(128 + red * 224 / 255))
    path = encode_yuv(tmp_path / "clip.mp4", planes, "yuv420p", colorspace=matrix)
    assert np.abs(shown(path).astype(int) - RED).max() <= 3


def test_an_untold_matrix_is_bt709_in_hd(tmp_path: Path) -> None:
    planes = yuv(63, 115, 214, height=720, width=1280)
    shades = {}
    for name, colour in (("untold", {}), ("bt709", {"colorspace": 1}), ("bt601", {"colorspace": 5})):
        path = encode_yuv(tmp_path / f"{name}.mp4", planes, "yuv420p", **colour)
        shades[name] = shown(path)[0, 0, 0].tolist()
    assert shades["untold"] == shades["bt709"] != shades["bt601"]


@pytest.mark.parametrize(("full", "level"), [(2, 100), (1, 98)])
def test_the_range_is_heeded(full: int, level: int, tmp_path: Path) -> None:
    path = encode_yuv(tmp_path / "clip.mp4", yuv(100, 128, 128), "yuv420p", color_range=full)
    assert np.abs(shown(path).astype(int) - level).max() <= 1


def test_ten_bits_become_eight(tmp_path: Path) -> None:
    levels = [(64, 0), (502, 128), (940, 255)]
    for stored, level in levels:
        path = encode_yuv(tmp_path / "clip.mp4", yuv(stored, 512, 512, depth=10), "yuv420p10le")
        assert np.abs(shown(path).astype(int) - level).max() <= 1


@pytest.mark.parametrize("transfer", [16, 18])  # PQ, HLG
def test_hdr_is_tone_mapped(transfer: int, tmp_path: Path) -> None:
    colour = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    planes = yuv(0, 512, 512, depth=10, width=128)
    planes[:64] = np.repeat([64, 200, 350, 500, 650, 800, 940, 350], 16)  # seven greys and a red
    chroma = planes[64:].reshape(2, 32, 64)  # two rows of chroma lie in one of the array's
    chroma[0, :, 56:], chroma[1, :, 56:] = 420, 800
    path = encode_yuv(tmp_path / "clip.mp4", planes, "yuv420p10le", **colour)
    with open_media(path) as media:
        bands = next(media.frames).rgb().astype(int)[32, 8::16]
    greys, red = bands[:7], bands[7]
    assert np.ptp(greys, axis=-1).max() <= 3  # grey stays grey
    assert greys[0].max() <= 2
    assert greys[6].min() >= 240
    assert all(later > earlier for earlier, later in pairwise(greys.mean(axis=-1)))
    assert red[0] > 2 * red[1:].max()


def test_a_change_of_size_is_named(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{width}.h264", counted(6, width=width), bf="0") for width in (64, 96)]
    stream = b"".join(path.read_bytes() for path in parts)
    (tmp_path / "joined.h264").write_bytes(stream)
    with av.open(str(tmp_path / "joined.h264")) as source, av.open(str(tmp_path / "clip.avi"), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for time, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.pts, packet.dts = copy, time, time
                packet.time_base = Fraction(1, 12)
                target.mux(packet)
    with pytest.raises(MediaError, match="a frame of 96 x 32 px among ones of 64 x 32"):
        probe(tmp_path / "clip.avi")
