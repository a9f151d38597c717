"""Decode animated WebP to frames with Pillow, because FFmpeg does not read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.frames import (
    DEFAULT_DELAY_MS,
    SHORTEST_DELAY_MS,
    DecodeOptions,
    Frame,
    Media,
    composed,
)

_ANIMATION_FLAG = 0x02


def is_webp(head: bytes) -> bool:
    """Return whether a file that starts with `head` is WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


@contextmanager
def open_webp(file: BinaryIO, options: DecodeOptions) -> Iterator[Media]:
    """Open an animated WebP; see `decode.open_media`.

    Raises:
        MediaError: If it is damaged or exceeds a limit.
    """
    durations = _durations(file, options)
    file.seek(0)
    try:
        image = Image.open(file)
    except UnidentifiedImageError as error:
        raise MediaError("damaged WebP") from error
    with image:
        if getattr(image, "n_frames", 1) != len(durations):
            raise MediaError(f"damaged WebP: it holds {len(durations)} frames and only some can be read")
        frames = _frames(image, durations, options)
        yield Media("webp", "webp", image.width, image.height, 0.001, frames)


def _durations(file: BinaryIO, options: DecodeOptions) -> list[int]:
    """Return each frame's duration in ms from the container (RFC 9649), to check limits before decoding.

    Raises:
        MediaError: If it is a still picture, too large, too long, or cut off.
    """
    durations: list[int] = []
    for kind, body, size in _chunks(file):
        if kind == b"VP8X":
            options.limits.allow_size(
                1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
            )
            if not body[0] & _ANIMATION_FLAG:
                break
        if kind == b"ANMF":
            if size < 16:
                raise MediaError(f"damaged WebP: frame {len(durations)} is too small")
            delay = int.from_bytes(body[12:15], "little")
            durations.append(delay if delay > SHORTEST_DELAY_MS else DEFAULT_DELAY_MS)
    if len(durations) < 2:
        raise MediaError("a still picture (WebP without animation), not a clip")
    options.limits.allow_length(len(durations), sum(durations) / 1000)
    return durations


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the chunks of a RIFF file: identifier, first 16 bytes of the body, size of the body in bytes."""
    end = file.seek(0, 2)
    file.seek(4)
    at, riff_end = 12, 8 + int.from_bytes(file.read(4), "little")
    if riff_end > end:
        raise MediaError(f"cut off: it has {end:,} of {riff_end:,} bytes")
    while at + 8 <= riff_end:
        file.seek(at)
        kind, size = file.read(4), int.from_bytes(file.read(4), "little")
        if at + 8 + size > riff_end:
            raise MediaError(f"damaged WebP: the chunk at byte {at} is longer than the file")
        yield kind, file.read(min(size, 16)), size
        at += 8 + size + size % 2


def _frames(image: Image.Image, durations: list[int], options: DecodeOptions) -> Iterator[Frame]:
    start = 0.0
    for index, duration in enumerate(durations):
        image.seek(index)
        pixels = np.asarray(image.convert("RGBA"))
        yield Frame(
            start,
            duration / 1000,
            lambda pixels=pixels: composed(pixels, options.background),  # type: ignore[misc]
        )
        start += duration / 1000
