"""Decode one source into rows of the clip table, one row per clip."""

import logging
import os
from bisect import bisect_left
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.frame_statistics import FrameStatistics
from mobius_pipeline.ingest.schema import OK, Rows, rejected
from mobius_pipeline.ingest.segments import SceneCuts, Span, spans
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.decode import Media, end_of, open_media
from mobius_pipeline.media.errors import MediaError, out_of_memory
from mobius_pipeline.media.identity import source_sha256
from mobius_pipeline.media.media_fragment import with_fragment
from mobius_pipeline.media.open_source import open_bytes

log = logging.getLogger(__name__)

_READ = {"status": OK, "reason": ""}


class KnownSource(NamedTuple):
    """The result for a source whose rows are already known: the SHA-256 of its bytes, in hex."""

    sha256: str


def imported_by_describe(config: IngestConfig) -> list[str]:
    """Return the names of the modules that `describe` imports when it first runs."""
    return ["scipy.fftpack", *(["scenedetect.detectors"] if config.scenes else [])]


def describe(
    folder: Path, source: str, config: IngestConfig, clip: ClipFormat, known: Container[str] = ()
) -> Rows | KnownSource:
    """Decode one source and return the rows of its clips; an unreadable source gives one rejected row.

    Args:
        folder: The folder of clips.
        source: A file, a member of a tar shard or a folder of images, relative to `folder`.
        config: How the source is cut into scenes and windows.
        clip: Frame rate and background for the statistics.
        known: SHA-256 of sources that are not decoded; the result for them is a `KnownSource`.

    Raises:
        Exception: If memory could not be allocated (see `out_of_memory`).
    """
    identity: dict[str, Any] = {}
    try:
        identity = _identity(folder / source)
        if identity["source_sha256"] in known:
            return KnownSource(identity["source_sha256"])
        with open_media(folder / source, clip.background) as media:
            return [{**row, **identity} for row in _clips(source, media, config, clip.rate)]
    except Exception as error:
        if out_of_memory(error):
            raise
        return [rejected(source, _reason(source, error), **identity)]


def _reason(source: str, error: Exception) -> str:
    if isinstance(error, MediaError):
        return str(error)
    if isinstance(error, OSError):  # for instance no permission, a broken link or a failing disk
        return f"cannot be read: {error.strerror}"
    # Any other error of a library rejects this source only.
    log.debug("%s", source, exc_info=error)
    return f"cannot be read: {type(error).__name__}: {error}"


def _identity(path: Path) -> dict[str, Any]:
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    else:
        with open_bytes(path) as file:
            size = file.seek(0, os.SEEK_END)
    return {"source_sha256": source_sha256(path), "bytes": size}


def _clips(source: str, media: Media, config: IngestConfig, rate: float) -> Rows:
    cutter = SceneCuts(config.scenes) if config.scenes else None
    statistics = FrameStatistics(rate, media.tick)
    for frame in media.frames:
        statistics.update(frame)
        if cutter:
            cutter.update(frame.start, frame.rgb())
    if len(statistics.starts) < 2:
        raise MediaError(f"{Path(source).name}: a still picture (one frame), not a clip")
    end_s = end_of(list(zip(statistics.starts, statistics.durations, strict=True)))
    found = spans(statistics.starts, end_s, cutter.cuts() if cutter else [], config.windows)
    about = {"container": media.container, "codec": media.codec, "width": media.width, "height": media.height}
    about["aspect"] = round(media.width / media.height, 4)
    return [
        {"source": source, **about, **_segment(source, statistics, span, len(found) == 1), **_READ}
        for span in found
    ]


def _segment(source: str, statistics: FrameStatistics, span: Span, is_intact: bool) -> dict[str, Any]:
    start_s, end_s = span
    first, last = (bisect_left(statistics.starts, at - 1e-6) for at in span)
    seconds = end_s - start_s
    return {
        "path": source if is_intact else with_fragment(source, start_s, end_s),
        "start_frame": first,
        "end_frame": last,
        "frames": last - first,
        "fps": round((last - first) / seconds, 3),
        "duration_s": round(seconds, 6),
        **statistics.measures(start_s, end_s),
    }
