"""Name segments by a W3C media fragment after the path of a source, `a/b.mp4#t=1.5,3.25`.

Seconds count from the presentation of the source's first frame. The end is exclusive; without it (`#t=1.5`),
the segment ends with the source. https://www.w3.org/TR/media-frags/#naming-time, in plain seconds only.
"""

import re
from pathlib import Path

from mobius_pipeline.media.errors import MediaError

_SECONDS = r"\d+(?:\.\d*)?"
_FRAGMENT = re.compile(rf"(?P<source>.+)#t=(?P<start>{_SECONDS})?(?:,(?P<end>{_SECONDS}))?")


def with_fragment(name: str, start_s: float, end_s: float | None) -> str:
    """Return the name of the segment [start_s, end_s) of `name`, with seconds rounded to microseconds."""
    end = "" if end_s is None else f",{_seconds(end_s)}"
    return f"{name}#t={_seconds(start_s)}{end}"


def split_fragment(path: Path) -> tuple[Path, float, float | None]:
    """Split a path into the path of the source, and the start and end of the segment in seconds.

    Without a fragment, these are 0 and None: the whole source. An existing file whose name looks like a
    fragment is taken as that file.

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
