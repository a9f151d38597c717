"""Real files and decoders: the frames that are returned, and the damage that is reported."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mobius_pipeline.media.clip import load_clip, steps_within
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import MediaError, open_media
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm, write_webp
from mobius_pipeline.sources.scenes import Scene, render
from probing import probe

CLIP = ClipFormat(frames=8, height=32, width=32, fps=8)
WRITERS: dict[str, Callable[[Path, np.ndarray, float], None]] = {
    "mp4": write_mp4,
    "webm": write_webm,
    "gif": write_gif,
    "webp": write_webp,
}
each_container = pytest.mark.parametrize("suffix", WRITERS)


def ramp(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return frames whose grey level is five times their number."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 5, height * width * 3).reshape(
        count, height, width, 3
    )


def numbers(frames: np.ndarray) -> list[int]:
    """Return the numbers of frames of a ramp, by their grey level."""
    return [round(frame.mean() / 5) for frame in frames]


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 32, 48, 3), dtype=np.uint8)


def write_timed(path: Path, frames: np.ndarray, times_ms: list[int]) -> None:
    """Write a Matroska file whose frames are shown at `times_ms`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, time in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@each_container
@pytest.mark.parametrize("fps", [8, 12, 20, 24])
def test_round_trip(suffix: str, fps: int, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{suffix}"
    WRITERS[suffix](path, ramp(fps), fps)
    found = probe(path)
    assert (found.frames, found.height, found.width) == (fps, 32, 48)
    assert found.fps == pytest.approx(fps, rel=0.01)
    assert found.duration_s == pytest.approx(1.0, abs=0.011)
    clip = load_clip(path, CLIP)
    assert clip.shape == (8, 32, 32, 3)
    assert clip.dtype == np.uint8
    assert numbers(clip) == [int(step * fps / 8 + 1e-6) for step in range(8)]


@each_container
def test_the_same_frames_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        WRITERS[suffix](path, ramp(9), 12)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_mp4_plays_in_browsers(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", ramp(8), 8)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_gif_loops(tmp_path: Path) -> None:
    write_gif(tmp_path / "clip.gif", ramp(8), 8)
    assert Image.open(tmp_path / "clip.gif").info["loop"] == 0


def test_odd_sizes_are_refused_where_video_cannot_hold_them(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"48 x 33 px.*even sizes. Pad or crop"):
        write_mp4(tmp_path / "odd.mp4", ramp(8, height=33), 8)
    write_gif(tmp_path / "odd.gif", ramp(8, height=33, width=47), 8)
    assert (probe(tmp_path / "odd.gif").height, probe(tmp_path / "odd.gif").width) == (33, 47)
    assert numbers(load_clip(tmp_path / "odd.gif", CLIP)) == list(range(8))


@pytest.mark.parametrize("frames", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.float32)])
def test_frames_of_another_kind_are_refused(frames: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"must be uint8 \(F, H, W, 3\)"):
        write_mp4(tmp_path / "clip.mp4", frames, 8)


def test_frames_are_picked_by_their_time(tmp_path: Path) -> None:
    """Ten frames in the first 100 ms, then one every 250 ms; the first is shown at 500 ms."""
    times = [500 + 10 * index for index in range(10)] + [750 + 250 * index for index in range(5)]
    write_timed(tmp_path / "variable.mkv", ramp(15), times)
    assert numbers(load_clip(tmp_path / "variable.mkv", CLIP)) == [0, 9, 10, 10, 11, 11, 12, 12]


def test_a_clip_covers_the_frame_and_is_cropped_at_its_centre(tmp_path: Path) -> None:
    frames = ramp(8, height=32, width=64)
    frames[:, :, 16:48, 0] = 255
    write_webp(tmp_path / "wide.webp", frames, 8)
    clip = load_clip(tmp_path / "wide.webp", CLIP)
    assert (clip[..., 0] == 255).all()
    assert (clip[..., 1] == frames[:, :, 16:48, 1]).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_transparent_pixels_become_white(suffix: str, tmp_path: Path) -> None:
    images = [Image.new("RGBA", (32, 32), (0, 0, 0, 0)) for _ in range(8)]
    for index, image in enumerate(images):
        image.paste((200, 0, 0, 255), (index, 8, index + 8, 24))
    kind = "PNG" if suffix == "apng" else suffix.upper()
    options = {"lossless": True} if suffix == "webp" else {"disposal": 2} if suffix == "gif" else {}
    path = tmp_path / f"clip.{suffix}"
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=125, loop=0, **options)
    clip = load_clip(path, CLIP)
    assert (clip[:, 0, 0] == 255).all()
    assert (np.abs(clip[3, 16, 5].astype(int) - (200, 0, 0)) < 8).all()


def test_a_phones_rotation_is_undone(tmp_path: Path) -> None:
    frames = np.zeros((8, 32, 48, 3), np.uint8)
    frames[:, :16, :24] = 255  # top left
    path = tmp_path / "phone.mp4"
    write_mp4(path, frames, 8)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2, version 0
    turn_right = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", *turn_right)
    path.write_bytes(data)
    assert (probe(path).height, probe(path).width) == (48, 32)
    with open_media(path) as clip:
        upright = next(clip.frames).rgb()
    assert upright[4, -4].min() > 200  # top right
    assert upright[4, 4].max() < 50


def test_a_short_clip_is_named(tmp_path: Path) -> None:
    write_mp4(tmp_path / "short.mp4", ramp(8), 16)
    with pytest.raises(MediaError, match=r"short.mp4: too short, 0.50 s give 4 frames at 8 a second and 8"):
        load_clip(tmp_path / "short.mp4", CLIP)


@pytest.mark.parametrize("seconds", [0.5, 0.9, 0.99, 1.0, 1.01, 1.3])
@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_the_count_of_steps_is_what_can_be_loaded(suffix: str, seconds: float, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{suffix}"
    WRITERS[suffix](path, ramp(round(seconds * 50)), 50)
    steps = steps_within(probe(path).duration_s, 8)
    assert len(load_clip(path, CLIP.model_copy(update={"frames": steps}))) == steps
    with pytest.raises(MediaError, match="too short"):
        load_clip(path, CLIP.model_copy(update={"frames": steps + 1}))


@each_container
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    WRITERS[suffix](path, noise(12), 12)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaError, match=f"cut.{suffix}: "):
        probe(path)


def test_altered_bytes_in_h264_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    scene = Scene("cross", "red", "diving", "grey")
    write_mp4(path, render(scene, times=[step / 12 for step in range(12)], height=64, width=64), 12)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(20):
        data = bytearray(whole)
        for place in rng.integers(len(data) // 2, len(data), 5):
            data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            probe(path)
        except MediaError:
            refused += 1
    assert refused >= 18  # a few changes leave a valid stream


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        ("Grüße, this is a note".encode(), "a text file, not a video"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "a text file, not a video"),
        (bytes(range(256)) * 20, "damaged or of an unknown format"),
    ],
)
def test_what_is_no_media_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    write_mp4(tmp_path / "other.mp4", ramp(8), 8)
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=f"clip.mp4: {reason}"):
        probe(tmp_path / "clip.mp4")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there is no such file"):
        probe(tmp_path / "none.mp4")


@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_a_still_picture_is_no_clip(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / f"still.{suffix}")
    with pytest.raises(MediaError, match="a still picture"):
        probe(tmp_path / f"still.{suffix}")


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="no video stream"):
        probe(tmp_path / "sound.mp4")
