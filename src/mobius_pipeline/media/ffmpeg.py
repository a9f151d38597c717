"""Decode videos, GIF and APNG to frames with FFmpeg (PyAV).

By default, FFmpeg hides damage. Here a damaged file raises: decoders run with `err_detect=explode`, errors
that they only log count as damage, and corrupt frames are refused. So is a file that is shorter than its
index says, or gives fewer frames than that lists.

Times are those of a player: in an MP4 with an edit list, frames before its start are decoded but not shown.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO, NoReturn

import av

from mobius_pipeline.media.decoding import Decoding, names_of
from mobius_pipeline.media.errors import MediaError, out_of_memory
from mobius_pipeline.media.ffmpeg_log import captured, refuse
from mobius_pipeline.media.frames import (
    DEFAULT_DELAY_MS,
    SHORTEST_DELAY_MS,
    DecodeOptions,
    Frame,
    Limits,
    Media,
)
from mobius_pipeline.media.pixels import Upright, deinterlaced
from mobius_pipeline.media.truncation import boxes_are_cut, is_cut, sums_disagree
from mobius_pipeline.media.video_stream import best_video_stream, crop_of

# Demuxers that are allowed. Without this list, a text file named .mp4 can make FFmpeg open other files.
_DEMUXERS = "mov,matroska,avi,gif,apng"
# Formats without seeking: each packet depends on all packets before it.
_NO_SEEKING = {"gif", "apng"}
# Frame delays of APNG as in browsers; the GIF demuxer has no such options.
_APNG_DELAYS = {
    "max_fps": str(1000 // SHORTEST_DELAY_MS - 1),
    "default_fps": str(1000 // DEFAULT_DELAY_MS),
}
# Seconds. Names of segments are precise to a microsecond; AVI's tick is a frame, but its times are exact.
_SHORTEST_TICK, _LONGEST_TICK = 2e-6, 0.01
_BUFFER = 1 << 16
_CUT = "cut off, bytes are missing at its end"

# Start in seconds from the first frame, duration in seconds, and the decoded frame.
_Timed = tuple[float, float, Any]


@contextmanager
def open_ffmpeg(file: BinaryIO, options: DecodeOptions) -> Iterator[Media]:
    """Open a file that FFmpeg reads; see `decode.open_media`.

    Raises:
        MediaError: If it is cut off, holds no video, or is not a container that FFmpeg may open.
    """
    if boxes_are_cut(file):
        raise MediaError(_CUT)
    limit = {"err_detect": "explode", "max_pixels": str(options.limits.pixels)}
    with captured() as lines:
        container = av.open(
            file,
            options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "none", **_APNG_DELAYS, **limit},
            io_open=_refuse_other_files,
            metadata_errors="replace",
            buffer_size=_BUFFER,
        )
    with container:
        stream = best_video_stream(container)
        context = stream.codec_context
        refuse(lines, names_of(context), options.limits)
        _check_header(container, stream, options.limits)
        # One decoding thread: more gain nothing with one worker per core, and can deadlock when decoding
        # stops early (PyAV issue 1962).
        context.thread_type, context.thread_count = "NONE", 1
        context.options = limit
        if is_cut(file, container.format.name, stream.index_entries):
            raise MediaError(_CUT)
        decoding = Decoding(container, stream, options.limits)
        first = next(decoding, None)
        if first is None:
            raise MediaError(f"its video stream ({context.name}) holds no frame that can be decoded")
        upright = Upright(first, stream.sample_aspect_ratio, options.background, crop_of(container, stream))
        options.limits.allow_size(upright.width, upright.height)
        yield Media(
            container=container.format.name,
            codec=context.codec.canonical_name,
            width=upright.width,
            height=upright.height,
            tick=min(max(float(stream.time_base), _SHORTEST_TICK), _LONGEST_TICK),
            frames=_proved(file, container, _shown(container, stream, first, decoding, upright, options)),
        )


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise MediaError(f"it refers to another file ({url[:100]}), which is not opened")


def _check_header(container: Any, stream: Any, limits: Limits) -> None:
    limits.allow_size(stream.codec_context.width, stream.codec_context.height)
    limits.allow_length(stream.frames, _stated_seconds(container, stream))
    if ("alpha_mode", "1") in {(key.lower(), value) for key, value in stream.metadata.items()}:
        raise MediaError(
            "VP8 and VP9 with transparency are not read: compose it on a background first, "
            "or write it as animated WebP"
        )


def _stated_seconds(container: Any, stream: Any) -> float:
    of_stream = float(stream.duration * stream.time_base) if stream.duration else 0.0
    return max(of_stream, float(container.duration or 0) / float(av.time_base))


def _proved(file: BinaryIO, container: Any, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yield the frames, then verify the container's checksums.

    Only in files with one stream: Matroska's checksums cover sound too, whose damage does not matter.
    """
    yield from frames
    if len(container.streams) == 1 and sums_disagree(file, container.format.name):
        raise MediaError("damaged: its bytes do not match its checksums")


def _shown(
    container: Any, stream: Any, first: Any, rest: Decoding, upright: Upright, options: DecodeOptions
) -> Iterator[Frame]:
    # bwdif reads a frame's neighbours, so interlaced video is decoded from its start: a segment then has the
    # same frames as the whole.
    seeks = options.start_s > 0 and not first.interlaced_frame and container.format.name not in _NO_SEEKING
    # AVI stores only decoding times.
    reorders = container.format.name == "avi" and stream.codec_context.has_b_frames
    if seeks and not reorders and first.pts is not None:
        frames = _from(container, stream, first.pts, options)
    else:
        frames = _all(container, stream, first, rest)
    alike = _alike(frames, first, upright)
    if reorders:
        stamped, origin = _by_decoding_time(alike), first.dts
    elif container.format.name == "gif":
        stamped, origin = _by_delay(alike, stream.time_base), 0
    else:
        stamped, origin = ((frame.pts, frame) for frame in alike), first.pts
    timed = _timed(stamped, origin, stream.time_base, options.limits)
    if first.interlaced_frame:
        timed = deinterlaced(timed, stream.time_base)
    for start, duration, frame in timed:
        yield Frame(start, duration, lambda frame=frame: upright.rgb(frame))  # type: ignore[misc]


def _all(container: Any, stream: Any, first: Any, rest: Decoding) -> Iterator[Any]:
    """Yield all frames from the first one; raise if there are fewer than the index lists."""
    count = 0
    for frame in chain([first], rest):
        count += 1
        yield frame
    # Only MP4's index has one entry per frame, and marks the frames that an edit list hides.
    promised = sum(not entry.is_discard for entry in stream.index_entries) - rest.leading
    if container.format.name.startswith("mov") and count < promised:
        raise MediaError(f"damaged: its index lists {promised} frames, but only {count} can be decoded")


def _by_decoding_time(frames: Iterator[Any]) -> Iterator[tuple[int | None, Any]]:
    """Yield frames with the decoding times of the packets that released them: one tick apart if none is lost.

    Frames that the decoder releases at the end of the stream have no such time; they get consecutive ticks.
    """
    stamp = 0
    for frame in frames:
        stamp = stamp + 1 if frame.dts is None else frame.dts
        yield stamp, frame


def _by_delay(frames: Iterator[Any], time_base: Fraction) -> Iterator[tuple[int | None, Any]]:
    """Yield the frames of a GIF with their times, each shown for as long as in browsers."""
    stamp = 0
    for frame in frames:
        if frame.duration * time_base <= Fraction(SHORTEST_DELAY_MS, 1000):
            frame.duration = int(Fraction(DEFAULT_DELAY_MS, 1000) / time_base)
        yield stamp, frame
        stamp += frame.duration


def _from(container: Any, stream: Any, origin: int, options: DecodeOptions) -> Iterator[Any]:
    """Yield frames from a key frame that is shown at most `options.start_s` seconds after `origin`.

    In open groups of pictures, the first pictures after a key frame refer to the group before it, and some
    decoders then raise. The remaining frames are decoded from the start of the file; damage raises there
    again.
    """
    given = None
    try:
        for frame in _sought(container, stream, origin, options):
            yield frame
            given = frame.pts
    except (av.error.FFmpegError, MediaError) as error:
        if out_of_memory(error):
            raise
    else:
        return
    container.seek(min(origin, 0), stream=stream)
    for frame in Decoding(container, stream, options.limits):
        if given is None or frame.pts is None or frame.pts > given:
            yield frame


def _sought(container: Any, stream: Any, origin: int, options: DecodeOptions) -> Iterator[Any]:
    """Seek to a key frame that is shown in time, and return the frames from there.

    Containers seek by decoding time, but a key frame may be shown after frames that are decoded later. If the
    key frame is shown too late, an earlier one is searched.

    Raises:
        MediaError: If there is none, for instance because an edit list hides it.
    """
    target, back = origin + int(options.start_s / stream.time_base), 0.0
    while back < options.start_s:
        container.seek(target - int(back / stream.time_base), stream=stream)
        frames = Decoding(container, stream, options.limits)
        key = next((frame for frame in frames if frame.key_frame), None)
        if key is not None and key.pts is not None and key.pts <= target:
            return chain([key], frames)
        back = back * 2 or 1.0
    raise MediaError("no key frame before the segment")


def _alike(frames: Iterator[Any], first: Any, upright: Upright) -> Iterator[Any]:
    """Yield the frames; raise if one differs from the first in size or interlacing."""
    for frame in frames:
        if frame.interlaced_frame and not first.interlaced_frame:
            raise MediaError("progressive at first, then interlaced: deinterlace it first (ffmpeg -vf bwdif)")
        upright.check(frame)
        yield frame


def _timed(
    frames: Iterator[tuple[int | None, Any]], origin: int | None, time_base: Fraction, limits: Limits
) -> Iterator[_Timed]:
    """Convert (time in ticks, frame) to seconds; a frame that the next one replaces at once is dropped."""
    tick, held = float(time_base), None
    for count, (stamp, frame) in enumerate(frames):
        if stamp is None or origin is None:
            raise MediaError(f"frame {count} has no presentation time: write it as MP4 or MKV first")
        start = (stamp - origin) * tick
        limits.allow_length(count + 1, start)
        if held and start < held[0]:
            raise MediaError(f"frame {count} is shown before the one before it: write it as MP4 or MKV first")
        if held and start > held[0]:
            yield held
        held = (start, (frame.duration or 0) * tick, frame)
    if held:
        yield held
