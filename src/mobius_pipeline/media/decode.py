"""Any clip to frames with presentation times, whatever its container, and whole or a segment of it.

A clip's path names a file, a member of a tar shard (`bytes.py`) or a folder of numbered images (`folder.py`);
behind it a media fragment may name a segment (`address.py`).
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
from mobius_pipeline.media.ffmpeg import opened_ffmpeg
from mobius_pipeline.media.frames import (
    WHITE,
    Colour,
    Limits,
    Opened,
    Pixels,
    Reading,
    Shown,
    end_of,
)
from mobius_pipeline.media.image_sequence import opened_folder
from mobius_pipeline.media.media_fragment import split_fragment
from mobius_pipeline.media.open_source import open_bytes
from mobius_pipeline.media.webp import is_webp, opened_webp

__all__ = ["Limits", "MediaError", "Opened", "Pixels", "Shown", "end_of", "opened"]

# What decoders raise on damage. Pillow's are many; ValueError is also a MediaError and a UnicodeError.
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
def opened(path: Path, background: Colour = WHITE, limits: Limits = Limits()) -> Iterator[Opened]:  # noqa: B008
    """Open a clip; its `frames` decode as they are iterated, and prove the file whole when exhausted.

    Of a segment they are the very frames that decoding the whole and cutting would give, and their times
    count from the first of them.

    Args:
        path: A file, a member of a tar shard or a folder of images, perhaps with a media fragment behind it.
        background: RGB, 0 to 255, that transparent pixels are composed on.
        limits: What it may unfold to.

    Raises:
        MediaError: If it is missing, empty, damaged, a still picture, beyond the limits, or no media at all;
            also while `frames` is iterated.
    """
    with ExitStack() as stack:
        with _explained(path):
            source, start, end = split_fragment(path)
            clip = stack.enter_context(_opened(source, Reading(background, limits, start)))
        cut = clip.frames if (start, end) == (0.0, None) else _cut(clip, start, end)
        yield replace(clip, frames=_explained_frames(path, cut))


@contextmanager
def _opened(source: Path, reading: Reading) -> Iterator[Opened]:
    with ExitStack() as stack:
        if source.is_dir():
            yield stack.enter_context(opened_folder(source, reading))
            return
        file = stack.enter_context(open_bytes(source))
        head = file.read(_HEAD)
        file.seek(0)
        _check_head(head)
        try:
            clip = stack.enter_context((opened_webp if is_webp(head) else opened_ffmpeg)(file, reading))
        except av.error.FFmpegError as error:
            raise MediaError("a text file, not a video" if _is_text(head) else _reason(error)) from error
        yield clip


def _cut(clip: Opened, start_s: float, end_s: float | None) -> Iterator[Shown]:
    """The frames whose start lies in [start_s, end_s), to half a tick; their times count from the first.

    Each lasts until the one behind it appears, which is what a player does with a wrong or missing duration.
    """
    held: Shown | None = None
    origin = 0.0
    for shown in clip.frames:
        if shown.start < start_s - clip.tick / 2:
            continue
        if held:
            yield replace(held, duration=shown.start - origin - held.start)
        else:
            origin = shown.start
        if end_s is not None and shown.start >= end_s - clip.tick / 2:
            break
        held = replace(shown, start=shown.start - origin)
    else:
        if held:
            yield held
    if held is None:
        until = "the end" if end_s is None else f"{end_s:g} s"
        raise MediaError(f"no frame of it starts between {start_s:g} s and {until}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into a MediaError that names the clip."""
    try:
        yield
    except _DECODE_ERRORS as error:
        raise MediaError(f"{path.name}: {_reason(error)}") from error


def _explained_frames(path: Path, frames: Iterator[Shown]) -> Iterator[Shown]:
    with _explained(path):
        for shown in frames:
            yield replace(shown, rgb=partial(_explained_rgb, path, shown))


def _explained_rgb(path: Path, shown: Shown) -> Pixels:
    with _explained(path):
        return shown.rgb()


def _check_head(head: bytes) -> None:
    if not head:
        raise MediaError("the file is empty (0 bytes)")
    if head.startswith(b"\x89PNG") and b"acTL" not in head:
        raise MediaError("a still picture (PNG without animation), not a clip")


def _reason(error: Exception) -> str:
    if isinstance(error, MediaError):
        return str(error)
    if isinstance(error, av.error.FFmpegError):  # its PermissionError says that it could not seek
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
        # The cut at 4,096 may fall inside a character.
        return error.start > 4092 and b"\x00" not in head
    return b"\x00" not in head
