"""Decode a clip after checking that its source has not changed since it was ingested."""

from functools import lru_cache
from pathlib import Path

from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat, ClipSize
from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.media.identity import source_sha256 as sha256_of
from mobius_pipeline.media.media_fragment import split_fragment
from mobius_pipeline.media.open_source import split_member


def read_sized(raw_clips: Path, clip: ClipFormat, wanted: tuple[str, str, int, int, int]) -> Pixels:
    """Decode a clip at one size.

    Args:
        raw_clips: The folder of clips.
        clip: The clip format; its size is replaced.
        wanted: Path of the clip, SHA-256 of its source, frames, height and width (px).

    Raises:
        MediaError: See `read_clip`.
    """
    path, sha256, frames, height, width = wanted
    size = ClipSize(frames=frames, height=height, width=width)
    return read_clip(raw_clips, path, sha256, clip.sized(size))


def read_clip(raw_clips: Path, path: str, source_sha256: str, clip: ClipFormat) -> Pixels:
    """Decode the clip that a row of the manifest names.

    Returns:
        uint8 (frames, height, width, 3).

    Raises:
        MediaError: If its source is missing, damaged, or has changed since it was ingested: its latents would
            be stored under the id of another clip.
    """
    source, *_ = split_fragment(raw_clips / path)
    try:
        found = _hash(source)
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error
    if found != source_sha256:
        raise MediaError("has changed since it was ingested")
    return load_clip(raw_clips / path, clip)


def _hash(source: Path) -> str:
    if source.is_dir():
        return sha256_of(source)
    found = split_member(source)[0].stat()
    return _hash_of(source, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)  # the segments of a source are read one after another
def _hash_of(source: Path, size: int, mtime_ns: int) -> str:
    return sha256_of(source)
