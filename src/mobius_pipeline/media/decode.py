"""Decode a clip or a segment of it, in any supported container, to frames with presentation times.

A clip's path names a file, a member of a tar shard (`open_source.py`) or a folder of numbered images
(`image_sequence.py`). A media fragment after it selects a segment (`media_fragment.py`).
"""

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import av.error
from PIL import Image

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.ffmpeg import open_ffmpeg
from mobius_pipeline.media.frames import (
    WHITE,
    Colour,
    DecodeOptions,
    Frame,
    Limits,
    Media,
    Pixels,
    end_of,
)
from mobius_pipeline.media.image_sequence import open_folder
from mobius_pipeline.media.media_fragment import split_fragment
from mobius_pipeline.media.open_source import open_bytes
from mobius_pipeline.media.webp import is_webp, open_webp

__all__ = ["Frame", "Limits", "Media", "MediaError", "Pixels", "end_of", "open_media"]

# Errors that decoders raise for damaged files. Pillow raises many; ValueError includes UnicodeError.
_DECODE_ERRORS = (
    av.error.FFmpegError,
    OSError,
    EOFError,
    SyntaxError,
    LookupError,
    ValueError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)
_HEAD = 65_536  # bytes


@contextmanager
def open_media(path: Path, background: Colour = WHITE, limits: Limits = Limits()) -> Iterator[Media]:  # noqa: B008
    """Open a clip. Its `frames` are decoded as they are iterated; reading all of them verifies the file.

    A segment has the same frames as if the whole clip were decoded and cut; times count from its first frame.

    Args:
        path: A file, a member of a tar shard or a folder of images, optionally with a media fragment.
        background: RGB, 0 to 255, that transparent pixels are composed on.
        limits: Largest frame size, frame count and length that are decoded.

    Raises:
        MediaError: If it is missing, empty, damaged, a still picture, beyond the limits, or not a media file;
            also while `frames` is iterated.
    """
    with ExitStack() as stack:
        with _explained(path):
            source, start, end = split_fragment(path)
            clip = stack.enter_context(_open_source(source, DecodeOptions(background, limits, start)))
        cut = clip.frames if (start, end) == (0.0, None) else _cut(clip, start, end)
        yield replace(clip, frames=_explained_frames(path, cut))


@contextmanager
def _open_source(source: Path, options: DecodeOptions) -> Iterator[Media]:
    with ExitStack() as stack:
        if source.is_dir():
            yield stack.enter_context(open_folder(source, options))
            return
        file = stack.enter_context(open_bytes(source))
        head = file.read(_HEAD)
        file.seek(0)
        _check_head(head)
        try:
            clip = stack.enter_context((open_webp if is_webp(head) else open_ffmpeg)(file, options))
        except av.error.FFmpegError as error:
            raise MediaError("a text file, not a video" if _is_text(head) else _reason(error)) from error
        yield clip


def _cut(clip: Media, start_s: float, end_s: float | None) -> Iterator[Frame]:
    """Yield the frames that start in [start_s, end_s), within half a tick; times count from the first one.

    Each frame lasts until the next one starts, as in players, because stored durations may be wrong or
    missing.
    """
    held: Frame | None = None
    origin = 0.0
    for frame in clip.frames:
        if frame.start < start_s - clip.tick / 2:
            continue
        if held:
            yield replace(held, duration=frame.start - origin - held.start)
        else:
            origin = frame.start
        if end_s is not None and frame.start >= end_s - clip.tick / 2:
            break
        held = replace(frame, start=frame.start - origin)
    else:
        if held:
            yield held
    if held is None:
        until = "the end" if end_s is None else f"{end_s:g} s"
        raise MediaError(f"no frame starts between {start_s:g} s and {until}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of decoders into a MediaError that names the clip."""
    try:
        yield
    except _DECODE_ERRORS as error:
        raise MediaError(f"{path.name}: {_reason(error)}") from error


def _explained_frames(path: Path, frames: Iterator[Frame]) -> Iterator[Frame]:
    with _explained(path):
        for frame in frames:
            yield replace(frame, rgb=partial(_explained_rgb, path, frame))


def _explained_rgb(path: Path, frame: Frame) -> Pixels:
    with _explained(path):
        return frame.rgb()


def _check_head(head: bytes) -> None:
    if not head:
        raise MediaError("the file is empty (0 bytes)")
    if head.startswith(b"\x89PNG") and b"acTL" not in head:
        raise MediaError("a still picture (PNG without animation), not a clip")


def _reason(error: Exception) -> str:
    if isinstance(error, MediaError):
        return str(error)
    if isinstance(error, av.error.FFmpegError):  # PyAV's PermissionError means that it could not seek
        what = error.strerror
    elif isinstance(error, PermissionError):
        return "no permission to read it"
    else:
        what = str(error)
    return f"damaged or of an unknown format ({what or type(error).__name__})"


def _is_text(head: bytes) -> bool:
    start = head[:4096]
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        # The first 4,096 bytes may end inside a character.
        return error.start > 4092 and b"\x00" not in head
    return b"\x00" not in head
