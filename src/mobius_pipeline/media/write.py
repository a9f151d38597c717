"""Write frames to media files; the same frames and encoder give the same bytes."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from PIL import Image

from mobius_pipeline.media.decode import MediaError, Pixels

# Bit-exact muxing omits random identifiers and dates. One thread and `cpu-independent` make the encoders
# deterministic: x264's AVX-512 code gave other bytes from run to run, and its AVX2 code others than C.
_MUXING = {"fflags": "+bitexact"}
_ONE_THREAD = {"threads": "1"}
_H264 = {"crf": "16", "preset": "medium", "x264-params": "cpu-independent=1", **_ONE_THREAD}
_VP9 = {"crf": "16", "b": "0", "deadline": "good", "cpu-used": "6", "row-mt": "0", **_ONE_THREAD}


def write_mp4(path: Path, frames: Pixels, fps: float) -> None:
    """Write frames, uint8 (F, H, W, 3), as an H.264 MP4 that browsers play (yuv420p, index first).

    Raises:
        MediaError: If the height or the width is odd, which yuv420p cannot hold.
    """
    _write_av(path, frames, fps, "libx264", _H264, {"movflags": "+faststart", **_MUXING})


def write_webm(path: Path, frames: Pixels, fps: float) -> None:
    """Write frames, uint8 (F, H, W, 3), as VP9 in WebM.

    Raises:
        MediaError: If the height or the width is odd.
    """
    _write_av(path, frames, fps, "libvpx-vp9", _VP9, _MUXING)


def write_gif(path: Path, frames: Pixels, fps: float) -> None:
    """Write frames, uint8 (F, H, W, 3), as a looping GIF; times are rounded to 10 ms, colours to 256."""
    first, *rest = [image.quantize(256, Image.Quantize.MEDIANCUT) for image in _images(frames)]
    durations = _durations_ms(len(frames), fps, 10)
    first.save(path, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, disposal=1)


def write_webp(path: Path, frames: Pixels, fps: float) -> None:
    """Write frames, uint8 (F, H, W, 3), as a lossless, looping WebP animation."""
    first, *rest = _images(frames)
    durations = _durations_ms(len(frames), fps, 1)
    first.save(
        path, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, lossless=True, method=0
    )


def _write_av(
    path: Path, frames: Pixels, fps: float, codec: str, options: Mapping[str, str], muxing: Mapping[str, str]
) -> None:
    _, height, width, _ = _checked(frames).shape
    if height % 2 or width % 2:
        raise MediaError(
            f"{path.name}: frames of {width} x {height} px cannot be written as yuv420p video, which "
            "needs even sizes. Pad or crop a row or a column, or write a GIF."
        )
    with av.open(str(path), "w", options=dict(muxing)) as container:
        stream = container.add_stream(
            codec, rate=Fraction(fps).limit_denominator(1001), options=dict(options)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _checked(frames: Pixels) -> Pixels:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise MediaError(f"frames must be uint8 (F, H, W, 3) with F > 0, not {frames.dtype} {frames.shape}")
    return np.ascontiguousarray(frames)


def _images(frames: Pixels) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in _checked(frames)]


def _durations_ms(count: int, fps: float, tick_ms: int) -> list[int]:
    """Return frame durations in ms, multiples of `tick_ms`; their sums stay within half a tick of k / fps."""
    ends = [round(index * 1000 / fps / tick_ms) * tick_ms for index in range(count + 1)]
    return [later - earlier for earlier, later in pairwise(ends)]
