"""Properties of a media file, to compare with those that a test has written."""

from dataclasses import dataclass
from pathlib import Path

from mobius_pipeline.media.decode import Limits, MediaError, end_of, open_media


@dataclass(frozen=True)
class Probe:
    """Properties of a media file, found by decoding the whole file.

    Attributes:
        width: Width in px as displayed: after rotation, with square pixels.
        height: Height in px as displayed.
        frames: Number of decoded frames.
        fps: Mean frames a second.
        duration_s: Seconds from the first frame's start to the last one's end.
        container: Name of the demuxer, for instance `mov,mp4,m4a,3gp,3g2,mj2`.
        codec: Name of the codec, for instance `h264`.
    """

    width: int
    height: int
    frames: int
    fps: float
    duration_s: float
    container: str
    codec: str


def probe(path: Path, limits: Limits = Limits()) -> Probe:  # noqa: B008
    """Decode a whole clip, or a segment of one, and return its properties.

    Raises:
        MediaError: If it is damaged, a still image, beyond the limits, or not a media file.
    """
    with open_media(path, limits=limits) as clip:
        times = [(shown.start, shown.duration) for shown in clip.frames]
        if len(times) < 2:
            raise MediaError(f"{path.name}: a still picture (one frame), not a clip")
        seconds = end_of(times)
        return Probe(
            width=clip.width,
            height=clip.height,
            frames=len(times),
            fps=round(len(times) / seconds, 3),
            duration_s=round(seconds, 6),
            container=clip.container,
            codec=clip.codec,
        )
