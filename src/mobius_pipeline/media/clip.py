"""Load a clip at the model's frame rate and size."""

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import Limits, MediaError, Pixels, end_of, open_media

# No limits: ingestion has checked the source, and only the model's frames of it are read.
_ANY_LENGTH = Limits(frames=sys.maxsize, seconds=math.inf)


def steps_within(seconds: float, fps: float) -> int:
    """Return how many of the times 0, 1/fps, 2/fps … are before `seconds`: the frames of a clip that long."""
    # A tolerance of a thousandth of a step, because durations are sums of rounded ticks.
    return math.ceil(seconds * fps - 1e-3)


def load_clip(path: Path, clip: ClipFormat) -> Pixels:
    """Read `clip.frames` frames at `clip.rate` from a file with any frame rate, constant or not.

    Step k takes the frame that is shown k / rate seconds after the first one appeared. The first step of a
    segment (`media_fragment.py`) is the segment's first frame. Frames are scaled to cover `clip.height` x
    `clip.width` (bicubic, antialiased) and cropped at the centre.

    Returns:
        uint8 (frames, height, width, 3).

    Raises:
        MediaError: If the file is damaged, not a media file, or too short.
    """
    return np.stack([_fitted(pixels, clip) for pixels in _picked(path, clip)])


def _picked(path: Path, clip: ClipFormat) -> list[Pixels]:
    picked: list[Pixels] = []
    times: list[tuple[float, float]] = []
    with open_media(path, clip.background, _ANY_LENGTH) as media:
        current = None
        for frame in media.frames:
            # Timestamps are rounded to the container's tick (10 ms in GIF), so half a tick late is accepted.
            while (
                current
                and len(picked) < clip.frames
                and len(picked) / clip.rate < frame.start - media.tick / 2
            ):
                picked.append(current.rgb())
            if len(picked) == clip.frames:
                return picked
            current = frame
            times.append((frame.start, frame.duration))
        seconds = end_of(times)
        if current is None or steps_within(seconds, clip.rate) < clip.frames:
            raise MediaError(
                f"{path.name}: too short, {seconds:.2f} s give {steps_within(seconds, clip.rate)} "
                f"frames at {clip.rate:g} a second and {clip.frames} are needed"
            )
        return picked + [current.rgb()] * (clip.frames - len(picked))


def _fitted(pixels: Pixels, clip: ClipFormat) -> Pixels:
    image = ImageOps.fit(Image.fromarray(pixels), (clip.width, clip.height), Image.Resampling.BICUBIC)
    return np.asarray(image)
