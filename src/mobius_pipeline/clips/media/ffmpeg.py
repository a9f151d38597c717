"""Videos, GIF and APNG to frames, by FFmpeg (PyAV).

FFmpeg hides damage by default. Here a damaged file raises: decoders run with `err_detect=explode`, what they
only log as an error counts as damage, corrupt frames are refused, and so is a file that ends before its own
index does or gives fewer frames than that promises.

Times are a player's: of an MP4 with an edit list, frames before its start are decoded and not shown.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO, NoReturn

import av

from mobius_pipeline.clips.media.errors import MediaError
from mobius_pipeline.clips.media.frames import Limits, Opened, Reading, Shown
from mobius_pipeline.clips.media.pixels import Upright, deinterlaced
from mobius_pipeline.clips.media.whole import boxes_are_cut, is_cut

# Demuxers that a clip may use. Without this list a text file named .mp4 can make FFmpeg open other files.
_DEMUXERS = "mov,matroska,avi,gif,apng"
# Here a packet leans on whatever came before it: no place to start but the first.
_NO_SEEKING = {"gif", "apng"}
# Seconds. Segments are named to the microsecond; AVI counts in frames, whose times are exact.
_SHORTEST_TICK, _LONGEST_TICK = 2e-6, 0.01
_BUFFER = 1 << 16
_CUT = "cut off, bytes are missing at its end"

# Damage is judged by FFmpeg's error lines, so every one must arrive with the file that it is about. These switches
# are the process's own, and threads read at the same time: they are set once. PyAV's default holds a line back
# that equals the one before, and gives it out with a later file's.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
_UNCAPTURED = logging.getLogger("libav")  # lines of no file that is being read, such as a closing one's
_UNCAPTURED.addHandler(logging.NullHandler())
_UNCAPTURED.propagate = False

# A decoded frame with the seconds at which it starts, from the first one, and lasts.
_Timed = tuple[float, float, Any]


@contextmanager
def opened_ffmpeg(file: BinaryIO, reading: Reading) -> Iterator[Opened]:
    """Open what FFmpeg reads; see `decode.opened`."""
    if boxes_are_cut(file):
        raise MediaError(_CUT)
    limit = {"err_detect": "explode", "max_pixels": str(reading.limits.pixels)}
    with _refusing(reading.limits):
        container = av.open(
            file,
            options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "none", **limit},
            io_open=_refuse_other_files,
            metadata_errors="replace",
            buffer_size=_BUFFER,
        )
    with container:
        stream = _video_stream(container, reading.limits)
        # One decoding thread: more gain nothing beside one worker a core, and can deadlock when a clip is
        # left early (PyAV issue 1962).
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        stream.codec_context.options = limit
        if is_cut(file, container.format.name, stream.index_entries):
            raise MediaError(_CUT)
        decoded = _decoded(container, stream, reading.limits)
        first = next(decoded, None)
        if first is None:
            raise MediaError("its video stream holds no frame")
        upright = Upright(first, stream.sample_aspect_ratio, reading.background)
        reading.limits.allow_size(upright.width, upright.height)
        yield Opened(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=upright.width,
            height=upright.height,
            tick=min(max(float(stream.time_base), _SHORTEST_TICK), _LONGEST_TICK),
            frames=_shown(container, stream, first, decoded, upright, reading),
        )


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise MediaError(f"it refers to another file ({url[:100]}), which is not opened")


@contextmanager
def _refusing(limits: Limits) -> Iterator[None]:
    """Raise a MediaError for what FFmpeg logs as an error and goes on after."""
    with av.logging.Capture() as said:
        yield
    texts = [text.strip() for _, _, text in said]
    for text in texts:
        if text.startswith("Picture size"):
            raise MediaError(f"a frame has more than {limits.pixels:,} pixels, the limit ({text})")
    if texts:
        raise MediaError(f"damaged ({texts[0]})")


def _video_stream(container: Any, limits: Limits) -> Any:
    """The video stream to read, once the header does not forbid it."""
    if not container.streams.video:
        raise MediaError("it holds no video stream")
    stream = container.streams.video[0]
    limits.allow_size(stream.codec_context.width, stream.codec_context.height)
    limits.allow_length(stream.frames, _told_seconds(container, stream))
    if ("alpha_mode", "1") in {(key.lower(), value) for key, value in stream.metadata.items()}:
        raise MediaError(
            "VP8 and VP9 with transparency are not read: compose it on a background first, "
            "or write it as animated WebP"
        )
    return stream


def _told_seconds(container: Any, stream: Any) -> float:
    of_stream = float(stream.duration * stream.time_base) if stream.duration else 0.0
    return max(of_stream, float(container.duration or 0) / float(av.time_base))


def _decoded(container: Any, stream: Any, limits: Limits) -> Iterator[Any]:
    checks = stream.codec_context.codec.canonical_name == "vp9"
    frames = _libvpx(container, stream) if checks else container.decode(stream)
    while True:
        with _refusing(limits):
            frame = next(frames, None)
        if frame is None:
            return
        if frame.is_corrupt:
            raise MediaError("damaged: a frame of it is corrupt")
        yield frame


def _libvpx(container: Any, stream: Any) -> Iterator[Any]:
    """VP9's frames by libvpx, which notices most damage; FFmpeg's own decoder takes nearly any bits."""
    decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.options = stream.codec_context.options
    for name in ("color_primaries", "color_trc"):  # the container tells these, not the stream
        setattr(decoder, name, getattr(stream.codec_context, name))
    for packet in container.demux(stream):
        yield from decoder.decode(packet if packet.size else None)


def _shown(
    container: Any, stream: Any, first: Any, rest: Iterator[Any], upright: Upright, reading: Reading
) -> Iterator[Shown]:
    # bwdif looks at a frame's neighbours: interlaced video is read from its start, so that a segment's frames
    # are those of the whole.
    seeks = reading.start_s > 0 and not first.interlaced_frame and container.format.name not in _NO_SEEKING
    if seeks and first.pts is not None:
        frames = _from(container, stream, first.pts, reading)
    else:
        frames = _all(container, stream, chain([first], rest))
    timed = _timed(_alike(frames, first, upright), first.pts, stream.time_base, reading.limits)
    if first.interlaced_frame:
        timed = deinterlaced(timed, stream.time_base)
    for start, duration, frame in timed:
        yield Shown(start, duration, lambda frame=frame: upright.rgb(frame))  # type: ignore[misc]


def _all(container: Any, stream: Any, frames: Iterator[Any]) -> Iterator[Any]:
    """The frames from the first on; when they end they have proved that all the index promises are there."""
    count = 0
    for frame in frames:
        count += 1
        yield frame
    # Only MP4's index has one entry a frame, and marks those that an edit list hides.
    promised = sum(not entry.is_discard for entry in stream.index_entries)
    if container.format.name.startswith("mov") and count < promised:
        raise MediaError(f"damaged: its index promises {promised} frames, and it gives {count}")


def _from(container: Any, stream: Any, origin: int, reading: Reading) -> Iterator[Any]:
    """Frames from a key frame on that is shown no later than `reading.start_s` seconds after `origin`.

    Where groups of pictures are open, the first ones behind a key frame lean on the group before, and some
    decoders then raise: what they do not give is read from the file's start, where damage raises again.
    """
    given = None
    try:
        for frame in _sought(container, stream, origin, reading):
            yield frame
            given = frame.pts
    except (av.error.FFmpegError, MediaError):
        pass
    else:
        return
    container.seek(min(origin, 0), stream=stream)
    for frame in _decoded(container, stream, reading.limits):
        if given is None or frame.pts is None or frame.pts > given:
            yield frame


def _sought(container: Any, stream: Any, origin: int, reading: Reading) -> Iterator[Any]:
    """Frames from a key frame on that is shown in time.

    Containers seek by decoding time, and a key frame may be shown after frames that are decoded behind it: if
    the one found is shown too late, an earlier one is looked for.

    Raises:
        MediaError: If there is none: an edit list may hide it.
    """
    target, back = origin + int(reading.start_s / stream.time_base), 0.0
    while back < reading.start_s:
        container.seek(target - int(back / stream.time_base), stream=stream)
        frames = _decoded(container, stream, reading.limits)
        key = next((frame for frame in frames if frame.key_frame), None)
        if key is not None and key.pts is not None and key.pts <= target:
            return chain([key], frames)
        back = back * 2 or 1.0
    raise MediaError("no key frame before the segment")


def _alike(frames: Iterator[Any], first: Any, upright: Upright) -> Iterator[Any]:
    """The frames, each of which is like the first."""
    for frame in frames:
        if frame.interlaced_frame and not first.interlaced_frame:
            raise MediaError("progressive at first, then interlaced: deinterlace it first (ffmpeg -vf bwdif)")
        upright.check(frame)
        yield frame


def _timed(
    frames: Iterator[Any], origin: int | None, time_base: Fraction, limits: Limits
) -> Iterator[_Timed]:
    tick, previous = float(time_base), -1.0
    for count, frame in enumerate(frames):
        if frame.pts is None or origin is None:
            raise MediaError(f"frame {count} has no presentation time: write it as MP4 or MKV first")
        start = (frame.pts - origin) * tick
        if start <= previous:
            raise MediaError(f"frame {count} is not shown after the one before: write it as MP4 or MKV first")
        limits.allow_length(count + 1, start)
        yield start, (frame.duration or 0) * tick, frame
        previous = start
