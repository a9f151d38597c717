"""Select a file's video stream; read its crop and codec name from FFmpeg's description."""

import re
from typing import Any, NamedTuple

from av.stream import Disposition

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.ffmpeg_log import description


class Crop(NamedTuple):
    """Pixels that the container crops on each side (Matroska's PixelCrop, MP4's `clap`)."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


def best_video_stream(container: Any) -> Any:
    """Return the video stream to read: FFmpeg's best one that is not a cover picture.

    Raises:
        MediaError: If there is none, or FFmpeg has no decoder for it.
    """
    streams = container.streams.video
    films = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    if not films:
        raise MediaError("it holds no video stream" + (", only a cover picture" if streams else ""))
    best = container.streams.best("video")
    film = best if best in films else films[0]
    if film.codec_context is None:
        raise MediaError(f"its video is of a codec that FFmpeg cannot read: {_codec(container, film)}")
    return film


def crop_of(container: Any, stream: Any) -> Crop:
    """Return the container's crop, from FFmpeg's description: PyAV does not expose side data of streams."""
    found = re.search(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", _part(container, stream))
    return Crop(*map(int, found.groups())) if found else Crop()


def _codec(container: Any, stream: Any) -> str:
    """Return the codec in FFmpeg's notation, such as `none (drmi / 0x696D7264)`."""
    found = re.search(r"Video: ([^,\n]+)", _part(container, stream))
    return found[1] if found else "it has no name"


def _part(container: Any, stream: Any) -> str:
    """Return the part of a container's description that is about one stream."""
    parts = re.split(r"^  Stream #0:(?=\d)", description(container), flags=re.MULTILINE)
    return next((part for part in parts[1:] if re.match(rf"{stream.index}\b", part)), "")
