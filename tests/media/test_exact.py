"""Exactly the frames that a player shows, by the number drawn into each, for all codecs and containers."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from media.counted import counted, encode, number_of
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import Limits, MediaError, open_media
from mobius_pipeline.media.media_fragment import with_fragment
from mobius_pipeline.media.write import write_gif, write_webp
from probing import probe

B_FRAMES = {"bf": "3", "g": "10", "x264-params": "b-adapt=0:scenecut=0"}
OPEN_GOP = {"bf": "3", "g": "10", "x264-params": "b-adapt=0:scenecut=0:open-gop=1"}
WRITERS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "mp4": lambda path, frames: encode(path, frames, **B_FRAMES),
    "mov": lambda path, frames: encode(path, frames, **OPEN_GOP),
    "mkv": lambda path, frames: encode(path, frames, **OPEN_GOP),
    "hevc.mp4": lambda path, frames: encode(
        path, frames, codec="libx265", **{"x265-params": "log-level=0:keyint=10"}
    ),
    "avi": lambda path, frames: encode(path, frames, codec="mpeg4", g="10", qscale="2"),
    "webm": lambda path, frames: encode(path, frames, codec="libvpx-vp9", g="10"),
    "gif": lambda path, frames: write_gif(path, frames, 12),
    "webp": lambda path, frames: write_webp(path, frames, 12),
    "apng": lambda path, frames: encode(path, frames, codec="apng", pix_fmt="rgb24", muxing={"plays": "0"}),
}
each_writer = pytest.mark.parametrize("suffix", WRITERS)


def seen(path: Path) -> tuple[list[int], list[float]]:
    """Return the numbers and the starts (s) of all frames."""
    with open_media(path) as media:
        shown = [(number_of(frame.rgb()), frame.start) for frame in media.frames]
    return [number for number, _ in shown], [start for _, start in shown]


@each_writer
@pytest.mark.parametrize("fps", [3, 8, 12, 24])
def test_a_rates_frames_are_those_on_screen(suffix: str, fps: float, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{suffix}"
    WRITERS[suffix](path, counted(36))
    size = ClipFormat(frames=int(fps * 3), height=32, width=64, fps=fps)
    picked = [number_of(frame) for frame in load_clip(path, size)]
    assert picked == [int(step * 12 / fps + 1e-6) for step in range(int(fps * 3))]


@each_writer
def test_a_segment_is_the_whole_cut(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{suffix}"
    WRITERS[suffix](path, counted(36))
    numbers, starts = seen(path)
    assert numbers == list(range(36))
    with open_media(path) as media:
        whole = [frame.rgb() for frame in media.frames]
    for first, end in [(0, 5), (1, 2), (9, 12), (10, 11), (11, 36), (23, 31), (35, 36)]:
        stop = starts[end] if end < 36 else 4.0
        with open_media(Path(with_fragment(str(path), starts[first], stop))) as media:
            cut = [(frame.start, frame.rgb()) for frame in media.frames]
        assert len(cut) == end - first
        assert all((pixels == whole[first + step]).all() for step, (_, pixels) in enumerate(cut))
        assert [start for start, _ in cut] == pytest.approx([t - starts[first] for t in starts[first:end]])


@each_writer
def test_files_beyond_a_buffer(suffix: str, tmp_path: Path) -> None:
    path, noise = tmp_path / f"clip.{suffix}", np.random.default_rng(0)
    frames = counted(24, height=96, width=192)
    frames[:, 8:] = noise.integers(0, 256, frames[:, 8:].shape, dtype=np.uint8)
    WRITERS[suffix](path, frames)
    assert path.stat().st_size > 100_000
    with open_media(path) as media:
        starts = [frame.start for frame in media.frames if number_of(frame.rgb()[:6]) >= 0]
    with open_media(Path(with_fragment(str(path), starts[15], starts[18]))) as media:
        assert [number_of(frame.rgb()[:6]) for frame in media.frames] == [15, 16, 17]


def test_a_segment_is_loaded_from_its_first_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", counted(36), **B_FRAMES)
    size = ClipFormat(frames=4, height=32, width=64, fps=6)
    segment = Path(with_fragment(str(path), 13 / 12, 21 / 12))
    assert [number_of(frame) for frame in load_clip(segment, size)] == [13, 15, 17, 19]
    found = probe(segment)
    assert (found.frames, found.duration_s, found.fps) == (8, pytest.approx(8 / 12, abs=1e-4), 12)
    with pytest.raises(MediaError, match=r"clip.mp4#t=1.083333,1.75: too short"):
        load_clip(segment, size.model_copy(update={"frames": 5}))
    with pytest.raises(MediaError, match="no frame starts between 5 s and 6 s"):
        probe(Path(with_fragment(str(path), 5, 6)))


@pytest.mark.parametrize("bf", ["0", "3"])
def test_variable_rate(bf: str, tmp_path: Path) -> None:
    """A slide show, a burst, a pause: 250 ms, 10 ms, 1 s; a segment lasts as long as it must."""
    gaps = [250] * 4 + [10] * 12 + [1000, 40, 40, 40]
    times = [int(time) for time in np.cumsum([700, *gaps])]
    path = encode(tmp_path / "clip.mkv", counted(21), times, time_base=Fraction(1, 1000), bf=bf, g="5")
    numbers, starts = seen(path)
    assert numbers == list(range(21))
    assert starts == pytest.approx([(time - 700) / 1000 for time in times])
    size = ClipFormat(frames=10, height=32, width=64, fps=5)
    assert [number_of(frame) for frame in load_clip(path, size)] == [0, 0, 1, 2, 3, 4, 16, 16, 16, 16]
    segment = Path(with_fragment(str(path), starts[15], starts[18]))
    assert probe(segment).duration_s == pytest.approx(1.05)
    assert seen(segment)[0] == [15, 16, 17]


def test_frames_before_zero_are_not_shown(tmp_path: Path) -> None:
    """MP4 expresses negative times by an edit list that starts at zero."""
    path = tmp_path / "clip.mp4"
    encode(path, counted(24), range(-4, 20), muxing={"avoid_negative_ts": "disabled"}, bf="0", g="6")
    numbers, starts = seen(path)
    assert numbers == list(range(4, 24))
    assert starts == pytest.approx([step / 12 for step in range(20)], abs=1e-4)


def test_missing_times_are_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"  # Matroska cannot store times below zero, so the frames have none
    encode(path, counted(24), range(-4, 20), muxing={"avoid_negative_ts": "disabled"}, bf="0", g="6")
    with pytest.raises(MediaError, match=r"clip.mkv: frame 0 has no presentation time: write it as"):
        probe(path)


def edit(path: Path, media_time: int) -> None:
    """Let the first edit of an MP4's edit list (ISO/IEC 14496-12, 8.6.6) start at `media_time`."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 4 + 8  # after version, flags, number of entries
    data[entry + 4 : entry + 8] = media_time.to_bytes(4)
    path.write_bytes(data)


@pytest.mark.parametrize("hidden", [1, 3, 10, 13])
def test_an_edit_list_trims_the_start(hidden: int, tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", counted(24), **B_FRAMES)
    with av.open(str(path)) as container:
        tick = 1 / 12 / container.streams.video[0].time_base
    edit(path, int((hidden + 2) * tick))  # B-frames delay the first frame by two
    numbers, starts = seen(path)
    assert numbers == list(range(hidden, 24))
    assert starts == pytest.approx([step / 12 for step in range(24 - hidden)], abs=1e-3)
    segment = Path(with_fragment(str(path), 4 / 12, 7 / 12))
    assert seen(segment)[0] == [hidden + 4, hidden + 5, hidden + 6]


def test_the_limit_on_length_is_the_probes_alone(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", counted(36), **B_FRAMES)
    for limits in (Limits(frames=35), Limits(seconds=2.9)):
        with pytest.raises(MediaError, match="the limit: split it first"):
            probe(path, limits)
    long = encode(tmp_path / "long.mkv", counted(4), [0, 1, 2, 12 * 5 * 3600])
    assert number_of(load_clip(long, ClipFormat(frames=2, height=32, width=64, fps=12))[1]) == 1


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_holds_decoding_times_alone(codec: str, tmp_path: Path) -> None:
    options = B_FRAMES if codec == "libx264" else {"bf": "2", "g": "10", "qscale": "2"}
    path = encode(tmp_path / "clip.avi", counted(24), codec=codec, **options)
    numbers, starts = seen(path)
    assert numbers == list(range(24))
    assert starts == pytest.approx([number / 12 for number in range(24)])
    assert seen(Path(with_fragment(str(path), 1, 1.5)))[0] == [12, 13, 14, 15, 16, 17]


def test_sound_is_passed_over(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        video, sound = container.add_stream("libx264", rate=12), container.add_stream("aac", rate=16000)
        video.height, video.width, video.pix_fmt = 32, 64, "yuv420p"
        for index, pixels in enumerate(counted(12)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 1024
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    assert seen(tmp_path / "clip.mp4")[0] == list(range(12))
