"""One source as rows of the table of clips: what its file is, and what each clip in it holds."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobius_pipeline.clips.media.clip import Probe, probe
from mobius_pipeline.clips.media.decode import MediaError
from mobius_pipeline.files import sha256

_UNKNOWN = asdict(Probe(width=0, height=0, frames=0, fps=0.0, duration_s=0.0, container="", codec=""))
# The columns that a row is made of, with a value of each column's type.
ROW: dict[str, Any] = {
    "path": "",
    "source_sha256": "",
    "bytes": 0,
    **_UNKNOWN,
    "start_frame": 0,
    "end_frame": 0,
    "status": "rejected",
    "reason": "",
}


def describe(folder: Path, path: str) -> list[dict[str, Any]]:
    """The clips of one source; one that cannot be read becomes one rejected row, never an error."""
    media = folder / path
    row = {**ROW, "path": path}
    try:
        row |= {"source_sha256": sha256(media), "bytes": media.stat().st_size}
        found = probe(media)
    except MediaError as error:
        return [{**row, "reason": str(error)}]
    except OSError as error:  # no permission, a broken link, a failing disk
        return [{**row, "reason": f"cannot be read: {error.strerror}"}]
    return [{**row, **asdict(found), "end_frame": found.frames, "status": "ok"}]
