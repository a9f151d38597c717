"""What earlier runs found out about sources, so that only new or changed ones are decoded."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.config import ClipFormat
from mobius_pipeline.files import digest

# Part of every cache's name: raise it when the rows that `describe` makes of the same bytes change.
_ROWS_VERSION = 1
Rows = list[dict[str, Any]]


class KnownSources:
    """Rows by the hash of a source's bytes, kept as lines of JSON that are appended as sources are read.

    A line that a killed run left half written is passed over, and its source is read again.
    """

    def __init__(self, folder: Path, config: IngestConfig, clip: ClipFormat) -> None:
        """Open the cache below `folder` of what decides the rows: other settings have another."""
        settings = {
            "rows": _ROWS_VERSION,
            "ingest": config.model_dump(include={"scenes", "windows"}),
            "clip": clip.model_dump(include={"fps", "stride", "background"}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{digest(settings)[:20]}.jsonl"
        self._places = _places(self._path)

    def __enter__(self) -> "KnownSources":
        self._file = self._path.open("a+b")
        if self._file.tell():
            self._file.write(b"\n")  # behind a line that may be half written
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def hashes(self) -> frozenset[str]:
        """Of the sources' bytes."""
        return frozenset(self._places)

    def rows_of(self, source: str, row: Mapping[str, Any]) -> Rows:
        """The rows of a source with the hash of `row`, under whatever name its bytes were read."""
        self._file.seek(self._places[row["source_sha256"]])
        _, rows = json.loads(self._file.readline())
        return [{**known, "source": source, "path": source + known["path"]} for known in rows]

    def add(self, source: str, rows: Rows) -> None:
        """Keep the rows of a source that was read; one that could not be is read again the next time."""
        if any(row["status"] == "rejected" for row in rows):
            return
        of_bytes = [{**row, "source": "", "path": row["path"].removeprefix(source)} for row in rows]
        line = json.dumps([rows[0]["source_sha256"], of_bytes])
        self._file.write(line.encode() + b"\n")  # at the end, wherever was read
        self._file.flush()


def _places(path: Path) -> dict[str, int]:
    """Where the line of each source begins; the rows are read when they are asked for, to save memory."""
    if not path.is_file():
        return {}
    found, place = {}, 0
    with path.open("rb") as lines:
        for line in lines:
            with suppress(ValueError):
                source, _ = json.loads(line)
                found[source] = place
            place += len(line)
    return found
