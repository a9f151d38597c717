"""Frames watched as they pass: what is measured of each, so that no film need be held in memory.

Measures see a clip as the model does: at the model's rate, in grey, 64 px across.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from mobius_pipeline.clips.media.decode import Opened, Pixels, Shown

_ACROSS = 64  # px
_STILL = 0.5  # grey levels: less is what compression changes in a frame that stands still
_BLACK, _OF_A_BLACK_FRAME = (
    32,
    98,
)  # a frame is black if so many percent of it are darker than that grey level

Floats = npt.NDArray[np.float64]


@dataclass
class Watched:
    """Times of all frames, and what was measured of those that the model would see.

    Attributes:
        starts: Seconds from the first frame's start, of every frame.
        durations: Seconds, of every frame; 0 where the file does not say.
        seen: Seconds at which the measured frames start.
        brightness: Mean grey level of each of those, 0 to 255.
        change: Mean absolute difference in grey levels from the measured frame before; 0 for the first.
        black: Whether each is.
        hashes: Perceptual hash of each, hex.
    """

    starts: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    black: list[bool] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def measures(self, start_s: float, end_s: float) -> dict[str, float | str]:
        """The columns of a segment; where it is too short for a measure that is 0."""
        first, last = np.searchsorted(self.seen, [start_s - 1e-6, end_s - 1e-6])
        last = max(last, first + 1)
        change, brightness = np.array(self.change[first + 1 : last]), np.array(self.brightness[first:last])
        middle = self.hashes[(first + last - 1) // 2]
        return {
            "motion": _mean(change),
            "static_share": _mean(change < _STILL),
            "black_share": _mean(np.array(self.black[first:last])),
            "flicker": _mean(np.abs(np.diff(brightness, n=2))),
            "likeness": self.hashes[first] + middle + self.hashes[last - 1],
        }


def watch(media: Opened, rate: float) -> Iterator[tuple[Shown, Watched]]:
    """Yield each frame, and what was measured up to it: of the first frame in each 1 / rate seconds."""
    watched, before, due = Watched(), None, 0
    for shown in media.frames:
        watched.starts.append(shown.start)
        watched.durations.append(shown.duration)
        step = int((shown.start + media.tick / 2) * rate + 1e-3)  # times are rounded to ticks
        if step >= due:
            before, due = _measure(watched, shown, before), step + 1
        yield shown, watched


def thumbnail(pixels: Pixels) -> Image.Image:
    """A frame of 64 px or a little more across its shorter side, by averaging; smaller ones as they are."""
    image = Image.fromarray(pixels)
    return image.reduce(max(1, min(image.size) // _ACROSS))


def _measure(watched: Watched, shown: Shown, before: Floats | None) -> Floats:
    small = thumbnail(shown.rgb())
    grey = np.asarray(small.convert("L"), np.float64)
    watched.seen.append(shown.start)
    watched.brightness.append(float(grey.mean()))
    watched.change.append(0.0 if before is None else float(np.abs(grey - before).mean()))
    watched.black.append(bool(np.percentile(grey, _OF_A_BLACK_FRAME) < _BLACK))
    watched.hashes.append(str(imagehash.phash(small)))
    return grey


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else 0.0
