"""Media files to frames with presentation times: PyAV for what FFmpeg reads, Pillow for animated WebP.

FFmpeg hides damage by default. Here a damaged file raises: decoders run with `err_detect=explode`, corrupt
frames are refused, and a file that ends before its own index does is refused as well.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from mobius_pipeline.clips.media.errors import MediaError
from mobius_pipeline.clips.media.whole import is_cut

__all__ = ["MediaError", "Opened", "Pixels", "Shown", "end_of", "opened"]

Pixels = npt.NDArray[np.uint8]

# Demuxers that a clip may use. Without this list a text file named .mp4 can make FFmpeg open other files.
_DEMUXERS = "mov,matroska,avi,gif,apng"
# Above this a small file could unfold to gigabytes (a "bomb"); 8K video is 33 million.
MAX_PIXELS = 40_000_000
_TOO_LARGE = f"a frame has more than {MAX_PIXELS:,} pixels"
_WHITE = 255
_DECODE_ERRORS = (
    av.error.FFmpegError,
    OSError,
    EOFError,
    SyntaxError,
    IndexError,
    UnicodeDecodeError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Shown:
    """A decoded frame.

    Attributes:
        start: Seconds from the first frame's presentation time.
        duration: Seconds that the file says it is shown for; 0 if it does not say.
        rgb: Gives the upright pixels, uint8 (H, W, 3), transparent ones composed on white.
    """

    start: float
    duration: float
    rgb: Callable[[], Pixels]


@dataclass(frozen=True)
class Opened:
    """An open media file. `tick` is the unit of its presentation times in seconds; size is upright, in px."""

    container: str
    codec: str
    width: int
    height: int
    tick: float
    frames: Iterator[Shown]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a media file; its `frames` decode as they are iterated, and prove it whole when exhausted.

    Raises:
        MediaError: If the file is missing, empty, damaged, a still picture, or no media file at all; also
            while `frames` is iterated.
    """
    with ExitStack() as stack:
        with _explained(path):
            head = _head(path)
            is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
            clip = stack.enter_context(_opened_webp(path) if is_webp else _opened_av(path))
        yield replace(clip, frames=_explained_frames(path, clip.frames))


def end_of(frames: list[tuple[float, float]]) -> float:
    """Seconds at which the last of `frames`, (start, duration) each, leaves the screen.

    WebM need not store the last frame's duration: it then is the median of the gaps before it.
    """
    start, duration = frames[-1]
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(frames)]
    return start + (duration or float(np.median(gaps or [0.0])))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except _DECODE_ERRORS as error:
        raise MediaError(_reason(path, error)) from error


def _explained_frames(path: Path, frames: Iterator[Shown]) -> Iterator[Shown]:
    with _explained(path):
        yield from frames


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise MediaError(f"{path.name}: there is no such file")
    head = _first_bytes(path)
    if not head:
        raise MediaError(f"{path.name}: the file is empty (0 bytes)")
    if head.startswith(b"\x89PNG") and b"acTL" not in head:
        raise MediaError(f"{path.name}: a still picture (PNG without animation), not a clip")
    return head


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(65_536)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{path.name}: no permission to read it"
    if isinstance(error, Image.DecompressionBombError):
        return f"{path.name}: {_TOO_LARGE}"
    if _is_text(path):
        return f"{path.name}: a text file, not a video"
    what = error.strerror if isinstance(error, av.error.FFmpegError) else str(error)
    return f"{path.name}: damaged or of an unknown format ({what or type(error).__name__})"


def _is_text(path: Path) -> bool:
    head = _first_bytes(path)
    try:
        head[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        # The cut at 4,096 may fall inside a character.
        return error.start > 4092 and b"\x00" not in head
    return b"\x00" not in head


@contextmanager
def _opened_av(path: Path) -> Iterator[Opened]:
    options = {"format_whitelist": _DEMUXERS, "err_detect": "explode", "protocol_whitelist": "file"}
    with av.open(str(path), options=options, metadata_errors="replace") as container:
        if not container.streams.video:
            raise MediaError(f"{path.name}: it holds no video stream")
        stream = container.streams.video[0]
        _limit(path, stream)
        first = next(container.decode(stream), None)
        if first is None:
            raise MediaError(f"{path.name}: its video stream holds no frame")
        turned = first.rotation % 180 != 0
        yield Opened(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            tick=float(stream.time_base),
            frames=_av_frames(path, container, stream, first),
        )


def _limit(path: Path, stream: Any) -> None:
    # One decoding thread: more gain nothing beside one worker a core, and can deadlock when a clip is left
    # early (PyAV issue 1962).
    context = stream.codec_context
    context.thread_type, context.thread_count = "NONE", 1
    context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    if context.width * context.height > MAX_PIXELS:
        raise MediaError(f"{path.name}: {_TOO_LARGE}")


def _av_frames(path: Path, container: Any, stream: Any, first: Any) -> Iterator[Shown]:
    tick, count, previous = float(stream.time_base), 0, -1.0
    for frame in _chained(first, container.decode(stream)):
        if frame.is_corrupt:
            raise MediaError(f"{path.name}: frame {count} is damaged")
        if frame.pts is None:
            raise MediaError(f"{path.name}: frame {count} has no presentation time")
        start = (frame.pts - first.pts) * tick
        if start <= previous:
            raise MediaError(f"{path.name}: frame {count} is not shown after the one before")
        yield Shown(start, (frame.duration or 0) * tick, lambda frame=frame: _av_rgb(frame))  # type: ignore[misc]
        count, previous = count + 1, start
    if is_cut(path, container.format.name, stream.index_entries):
        raise MediaError(f"{path.name}: cut off, only {count} frames of it are there")


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _av_rgb(frame: Any) -> Pixels:
    turns = frame.rotation // 90
    if any(component.is_alpha for component in frame.format.components):
        pixels = on_white(frame.to_ndarray(format="rgba"))
    else:
        pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, turns))


@contextmanager
def _opened_webp(path: Path) -> Iterator[Opened]:
    try:
        image = Image.open(path)
    except UnidentifiedImageError as error:
        raise MediaError(f"{path.name}: damaged WebP") from error
    with image:
        if getattr(image, "n_frames", 1) < 2:
            raise MediaError(f"{path.name}: a still picture (WebP without animation), not a clip")
        if image.width * image.height > MAX_PIXELS:
            raise MediaError(f"{path.name}: {_TOO_LARGE}")
        yield Opened("webp", "webp", image.width, image.height, 0.001, _webp_frames(path, image))


def _webp_frames(path: Path, image: Image.Image) -> Iterator[Shown]:
    start = 0.0
    for index in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(index)
        image.load()  # the duration is known only after this
        duration = image.info["duration"] / 1000
        if not duration:
            raise MediaError(f"{path.name}: frame {index} says that it is shown for no time")
        pixels = np.asarray(image.convert("RGBA"))
        yield Shown(start, duration, lambda pixels=pixels: on_white(pixels))  # type: ignore[misc]
        start += duration


def on_white(rgba: Pixels) -> Pixels:
    """Compose straight-alpha `rgba` uint8 (H, W, 4) on white: uint8 (H, W, 3)."""
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + _WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)
