"""Define what every media reader returns (frames with times), and the options and limits of decoding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobius_pipeline.media.errors import MediaError

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
# Browsers show a frame of an animation with a delay of 10 ms or less for 100 ms (WebKit bug 36082).
SHORTEST_DELAY_MS, DEFAULT_DELAY_MS = 10, 100


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
        start: Seconds from the presentation of the clip's first frame.
        duration: Duration in seconds according to the file; 0 if unknown.
        rgb: Returns the frame upright with square pixels, uint8 (H, W, 3); transparency is composed.
    """

    start: float
    duration: float
    rgb: Callable[[], Pixels]


@dataclass(frozen=True)
class Media:
    """An open clip. Width and height are in px as displayed; `tick` is the precision of times in s."""

    container: str
    codec: str
    width: int
    height: int
    tick: float
    frames: Iterator[Frame]


@dataclass(frozen=True)
class Limits:
    """Limits against decompression bombs: small files that would fill the memory or take days to decode.

    Attributes:
        pixels: Most pixels per frame; 8K video has 33 million.
        frames: Most frames per file.
        seconds: Greatest length of a file, s.
    """

    pixels: int = 40_000_000
    frames: int = 1_000_000
    seconds: float = 4 * 3600.0

    def allow_size(self, width: int, height: int) -> None:
        """Raise a MediaError if a frame of that size is too large."""
        if width * height > self.pixels:
            raise MediaError(
                f"a frame of {width} x {height} px has more than {self.pixels:,} pixels, the limit"
            )

    def allow_length(self, frames: int, seconds: float) -> None:
        """Raise a MediaError if there are too many frames or seconds."""
        if frames > self.frames:
            raise MediaError(f"more than {self.frames:,} frames, the limit: split it first")
        if seconds > self.seconds:
            raise MediaError(f"longer than {self.seconds:g} s, the limit: split it first")


@dataclass(frozen=True)
class DecodeOptions:
    """How a source is decoded.

    Attributes:
        background: RGB, 0 to 255, that transparent pixels are composed on.
        limits: Limits of the decoded size.
        start_s: Seconds from the first frame's start; frames that end earlier may be skipped.
    """

    background: Colour = WHITE
    limits: Limits = Limits()
    start_s: float = 0.0


def end_of(frames: list[tuple[float, float]]) -> float:
    """Return the time in seconds at which the last of `frames`, (start, duration) each, ends.

    WebM may lack the duration of the last frame; the median distance of frames replaces it.
    """
    start, duration = frames[-1]
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(frames)]
    return start + (duration or float(np.median(gaps or [0.0])))


def composed(rgba: Pixels, background: Colour) -> Pixels:
    """Compose straight-alpha `rgba` uint8 (H, W, 4) on a colour: uint8 (H, W, 3)."""
    if rgba[..., 3].min() == 255:  # most pictures with an alpha channel are opaque
        return np.asarray(Image.fromarray(rgba).convert("RGB"))  # takes a third of NumPy's time
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    behind = np.asarray(background, np.uint32)
    return ((colour * alpha + behind * (255 - alpha) + 127) // 255).astype(np.uint8)
