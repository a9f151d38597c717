"""Videos whose frames show their number in black and white blocks that survive compression."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 8


def counted(count: int, height: int = 32, width: int = 64) -> np.ndarray:
    """Return uint8 (count, height, width, 3): frame k shows k in binary, the lowest bit at the left."""
    bits = (np.arange(count)[:, None] >> np.arange(BITS)) & 1
    row = np.repeat(bits * 255, width // BITS, axis=1).astype(np.uint8)
    return np.broadcast_to(row[:, None, :, None], (count, height, row.shape[1], 3)).copy()


def number_of(frame: np.ndarray) -> int:
    """Read the number in a frame of `counted` of any size."""
    blocks = np.array_split(frame.mean(axis=(0, 2)), BITS)
    return sum(int(block[len(block) // 2] > 127) << bit for bit, block in enumerate(blocks))


def encode(
    path: Path,
    frames: np.ndarray,
    times: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    time_base: Fraction = Fraction(1, 12),
    pix_fmt: str = "yuv420p",
    muxing: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """Write frames that are shown at `times`, in units of `time_base`; one after the other by default."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream: Any = container.add_stream(codec, rate=1 / time_base, options={"threads": "1", **options})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.time_base = time_base
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = times[index] if times else index, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
