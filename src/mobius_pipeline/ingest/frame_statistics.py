"""Measure statistics of frames one by one, so that no source has to fit in memory.

They are measured at the model's frame rate, in grey, on frames reduced to about 64 px.
"""

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from mobius_pipeline.media.decode import Frame, Pixels

_ACROSS = 64  # px
_STILL = 0.5  # grey levels: compression changes a still frame by less
_BLACK = 32  # grey level
_OF_A_BLACK_FRAME = 98  # percent of the pixels of a black frame that are darker than that

Floats = npt.NDArray[np.float64]


class FrameStatistics:
    """Times of all frames of a source, and statistics of the frames that the model would see."""

    def __init__(self, rate: float, tick: float) -> None:
        """Measure one frame per interval of 1 / `rate` seconds; times have a precision of `tick` seconds."""
        self._rate, self._tick, self._due = rate, tick, 0
        self._before: Floats | None = None
        self.starts: list[float] = []  # seconds from the first frame's start, of every frame
        self.durations: list[float] = []  # seconds, of every frame; 0 if unknown
        self._seen: list[
            float
        ] = []  # starts of the measured frames, s; the lists below have an entry for each
        self._brightness: list[float] = []  # mean grey level, 0 to 255
        self._change: list[float] = []  # mean absolute difference from the frame before, in grey levels
        self._black: list[bool] = []
        self._hashes: list[str] = []  # perceptual, hex

    def update(self, frame: Frame) -> None:
        """Add the next frame."""
        self.starts.append(frame.start)
        self.durations.append(frame.duration)
        step = int((frame.start + self._tick / 2) * self._rate + 1e-3)
        if step >= self._due:
            self._due = step + 1
            self._measure(frame)

    def measures(self, start_s: float, end_s: float) -> dict[str, float | str]:
        """Return the statistics of a segment by column; 0 where the segment is too short for one."""
        first, last = np.searchsorted(self._seen, [start_s - 1e-6, end_s - 1e-6])
        first = min(first, len(self._seen) - 1)  # a segment may fall between two measured frames
        last = max(last, first + 1)
        change, brightness = np.array(self._change[first + 1 : last]), np.array(self._brightness[first:last])
        middle = self._hashes[(first + last - 1) // 2]
        return {
            "motion": _mean(change),
            "static_share": _mean(change < _STILL),
            "black_share": _mean(np.array(self._black[first:last])),
            "flicker": _mean(np.abs(np.diff(brightness, n=2))),
            "likeness": self._hashes[first] + middle + self._hashes[last - 1],
        }

    def _measure(self, frame: Frame) -> None:
        small = thumbnail(frame.rgb())
        grey = np.asarray(small.convert("L"), np.float64)
        self._seen.append(frame.start)
        self._brightness.append(float(grey.mean()))
        self._change.append(0.0 if self._before is None else float(np.abs(grey - self._before).mean()))
        self._black.append(bool(np.percentile(grey, _OF_A_BLACK_FRAME) < _BLACK))
        self._hashes.append(str(imagehash.phash(small)))
        self._before = grey


def thumbnail(pixels: Pixels) -> Image.Image:
    """Reduce a frame, uint8 (H, W, 3), by averaging to a shorter side of 64 to 127 px; smaller ones stay."""
    image = Image.fromarray(pixels)
    return image.reduce(max(1, min(image.size) // _ACROSS))


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else 0.0
