"""Rows of sources that earlier runs decoded, so that only new or changed sources are decoded."""

import json
import logging
import sqlite3
import zlib
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.schema import Rows
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.files import digest

log = logging.getLogger(__name__)

# Part of every database's name: raise it when the rows that `describe` makes of the same bytes change, or if
# a source that was read is now refused.
_ROWS_VERSION = 4
_HASH = 32  # bytes
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: no such column


class DecodeCache:
    """Rows by the hash of a source's bytes, in a database that holds every source as soon as it was read."""

    def __init__(self, folder: Path, config: IngestConfig, clip: ClipFormat) -> None:
        """Open the database below `folder` for these settings; others that change rows have another."""
        settings = {
            "rows": _ROWS_VERSION,
            "ingest": config.model_dump(include={"scenes", "windows"}),
            "clip": clip.model_dump(include={"fps", "stride", "background"}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{digest(settings)[:20]}.sqlite"

    def __enter__(self) -> "DecodeCache":
        try:
            self._sources = _opened(self._path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in _DAMAGE:  # a full disk, say
                raise
            log.warning(
                "%s is damaged (%s). A new one is written: all sources are decoded again.", self._path, error
            )
            self._path.unlink()
            self._sources = _opened(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sources.close()

    def hashes(self) -> "Hashes":
        """SHA-256 of the sources whose rows are intact; the others are decoded again."""
        every = self._sources.execute("SELECT sha256, rows FROM sources ORDER BY sha256")
        return Hashes(key for key, rows in every if len(key) == _HASH and _is_whole(rows))

    def rows_of(self, source: str, sha256: str) -> Rows:
        """The rows of a source whose bytes have that hash, in hex, under whatever name they were read."""
        key = bytes.fromhex(sha256)
        found = self._sources.execute("SELECT rows FROM sources WHERE sha256 = ?", [key]).fetchone()
        rows = json.loads(zlib.decompress(found[0]))
        return [{**known, "source": source, "path": source + known["path"]} for known in rows]

    def add(self, source: str, rows: Rows) -> None:
        """Store the rows of a source; one that was rejected is not stored and read again the next time."""
        if any(row["status"] == "rejected" for row in rows):
            return
        of_bytes = [{**row, "source": "", "path": row["path"].removeprefix(source)} for row in rows]
        self._sources.execute(
            "INSERT OR REPLACE INTO sources VALUES (?, ?)",
            [bytes.fromhex(rows[0]["source_sha256"]), zlib.compress(json.dumps(of_bytes).encode())],
        )


class Hashes:
    """A set of SHA-256 digests that takes 32 bytes each, wherever it is sent."""

    def __init__(self, digests: Iterable[bytes]) -> None:
        """Store digests that come in ascending order."""
        self._bytes = b"".join(digests)

    def __len__(self) -> int:
        return len(self._bytes) // _HASH

    def __getitem__(self, place: int) -> bytes:
        return self._bytes[place * _HASH : (place + 1) * _HASH]

    def __contains__(self, sha256: object) -> bool:
        """Whether a digest, in hex, is one of them."""
        one = bytes.fromhex(str(sha256))
        return self[bisect_left(self, one)] == one  # past the last one there are no bytes


def _opened(path: Path) -> sqlite3.Connection:
    sources = sqlite3.connect(path, isolation_level=None)
    # Writes do not wait for the disk: a killed process loses no row, and after a power cut sources are
    # decoded again.
    sources.execute("PRAGMA synchronous = OFF")
    sources.execute("PRAGMA journal_mode = TRUNCATE")
    if (state := sources.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        sources.close()
        raise sqlite3.DatabaseError(state)
    sources.execute("CREATE TABLE IF NOT EXISTS sources (sha256 BLOB PRIMARY KEY, rows BLOB NOT NULL)")
    sources.execute("SELECT sha256, rows FROM sources LIMIT 1")  # a database of something else has none
    return sources


def _is_whole(rows: Any) -> bool:
    """Whether the rows of a source are intact, by zlib's checksum."""
    try:
        zlib.decompress(rows)
    except (TypeError, zlib.error):
        return False
    return True
