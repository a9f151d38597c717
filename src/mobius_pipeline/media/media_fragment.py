"""Names of segments: a W3C media fragment behind a source's path, `a/b.mp4#t=1.5,3.25`.

Seconds count from the presentation of the source's first frame; the end is exclusive, and left out (`#t=1.5`)
it is the end of the source. https://www.w3.org/TR/media-frags/#naming-time, in plain seconds only.
"""

import re
from pathlib import Path

from mobius_pipeline.media.errors import MediaError

_SECONDS = r"\d+(?:\.\d*)?"
_FRAGMENT = re.compile(rf"(?P<source>.+)#t=(?P<start>{_SECONDS})?(?:,(?P<end>{_SECONDS}))?")


def with_fragment(name: str, start_s: float, end_s: float | None) -> str:
    """The name of the segment of `name` in [start_s, end_s) seconds, to the microsecond."""
    end = "" if end_s is None else f",{_seconds(end_s)}"
    return f"{name}#t={_seconds(start_s)}{end}"


def split_fragment(path: Path) -> tuple[Path, float, float | None]:
    """A source's path, and the seconds at which its segment starts and ends.

    Without a fragment they are 0 and None, the whole source. A file whose own name ends like a fragment is
    that file.

    Raises:
        MediaError: If the segment ends before it starts.
    """
    found = _FRAGMENT.fullmatch(path.name)
    if not found or (found["start"], found["end"]) == (None, None) or path.exists():
        return path, 0.0, None
    start, end = float(found["start"] or 0), None if found["end"] is None else float(found["end"])
    if end is not None and end <= start:
        raise MediaError(f"{path.name}: a segment must end after its start, at more than {start:g} s")
    return path.with_name(found["source"]), start, end


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
