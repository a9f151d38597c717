"""Cut a source at scene changes, found by PySceneDetect, and into windows of equal length."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobius_pipeline.ingest.config import ScenesConfig, WindowsConfig
from mobius_pipeline.ingest.frame_statistics import thumbnail
from mobius_pipeline.media.decode import Pixels

# PySceneDetect assumes a constant frame rate; at this rate, a frame number is a time in ms.
_MILLISECONDS = 1000.0

if TYPE_CHECKING:
    from scenedetect.common import FrameTimecode
    from scenedetect.detector import SceneDetector

Floats = npt.NDArray[np.float64]
Span = tuple[float, float]  # seconds from the first frame's start, the end exclusive


class SceneCuts:
    """Finds scene cuts frame by frame. PySceneDetect does not open the file: its reader has no limits."""

    def __init__(self, config: ScenesConfig) -> None:
        self._detector = _detector(config)
        self._last = self._at(0.0)
        self._found: list[FrameTimecode] = []

    def update(self, start_s: float, pixels: Pixels) -> None:
        """Add the next frame, uint8 RGB (H, W, 3)."""
        self._last = self._at(start_s)
        small = np.ascontiguousarray(np.asarray(thumbnail(pixels))[..., ::-1])  # BGR, as in OpenCV
        self._found += self._detector.process_frame(self._last, small)

    def cuts(self) -> list[float]:
        """Return the start of every scene but the first, in seconds. Add no frame after this call."""
        found = self._found + self._detector.post_process(self._last)
        return sorted({cut.frame_num / _MILLISECONDS for cut in found})

    @staticmethod
    def _at(seconds: float) -> "FrameTimecode":
        from scenedetect.common import FrameTimecode

        return FrameTimecode(round(seconds * _MILLISECONDS), fps=_MILLISECONDS)


def _detector(config: ScenesConfig) -> "SceneDetector":
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    least = round(config.min_length_s * _MILLISECONDS)
    if config.detector == "content":
        return ContentDetector(threshold=config.threshold, min_scene_len=least)
    return AdaptiveDetector(adaptive_threshold=config.threshold, min_scene_len=least)


def spans(
    starts: Sequence[float], end_s: float, cuts: Sequence[float], windows: WindowsConfig | None
) -> list[Span]:
    """Return the segments of a source, which start and end at the starts of frames, or end with the source.

    Args:
        starts: Start of every frame, in seconds.
        end_s: End of the last frame, in seconds.
        cuts: Scene cuts in seconds; each is moved to the nearest start of a frame.
        windows: How to cut each scene into windows; a remainder at its end becomes a segment too.
    """
    times = np.asarray(starts)
    exact = [float(times[np.abs(times - cut).argmin()]) for cut in cuts]
    scenes = pairwise([0.0, *(cut for cut in exact if cut > 0), end_s])
    return [span for scene in scenes for span in (_windows(scene, windows, times) if windows else [scene])]


def _windows(scene: Span, config: WindowsConfig, times: Floats) -> Iterator[Span]:
    start, end = scene
    covered = start
    slack = 1e-3  # seconds: times are sums of rounded ticks
    while start + config.length_s <= end + slack:
        covered = min(_frame_at(start + config.length_s, times), end)
        yield _frame_at(start, times), covered
        start += config.stride_s
    if max(start, covered) < end - slack:
        yield _frame_at(start, times), end


def _frame_at(seconds: float, times: Floats) -> float:
    """Return the start of the first frame at or after `seconds`; `seconds` itself after the last frame."""
    place = int(np.searchsorted(times, seconds - 1e-3))
    return float(times[place]) if place < len(times) else seconds
