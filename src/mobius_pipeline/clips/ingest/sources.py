"""What lies below a folder of raw clips."""

import logging
from collections import Counter
from pathlib import Path

from mobius_pipeline.errors import MobiusError

log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp", ".apng", ".png"}
_BESIDE = {".txt", ".csv", ".json"}  # captions and provenance: no clips, and nothing to wonder about


def find_media(folder: Path) -> list[str]:
    """The media files below `folder`, relative and sorted; other files are counted in the log.

    Raises:
        MobiusError: If there are none.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    media = sorted(path.relative_to(folder).as_posix() for path in files if path.suffix.lower() in SUFFIXES)
    other = Counter(
        path.suffix.lower() or "(none)" for path in files if path.suffix.lower() not in SUFFIXES | _BESIDE
    )
    if other:
        log.warning("Files that are no media by their suffix, passed over: %s.", dict(other))
    if not media:
        raise MobiusError(
            f"There are no clips in {folder}. Put {', '.join(sorted(SUFFIXES))} files there, or name another "
            "folder in `clips` of conf/base/globals.yml."
        )
    return media
