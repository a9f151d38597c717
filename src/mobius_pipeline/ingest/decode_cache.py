"""Cache the rows of decoded sources, so that later runs decode only new or changed sources."""

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
from mobius_pipeline.ingest.schema import REJECTED, Rows
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.files import digest

log = logging.getLogger(__name__)

# Part of the database's name. Increase it when `describe` gives other rows for the same bytes, or now rejects
# a source that it used to read.
_ROWS_VERSION = 4
_HASH = 32  # bytes
_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
}  # SQLITE_ERROR: no such column


class DecodeCache:
    """Rows by the SHA-256 of a source, in an SQLite database that is updated after each source."""

    def __init__(self, folder: Path, config: IngestConfig, clip: ClipFormat) -> None:
        """Choose the database below `folder` for these settings: settings that change rows have their own."""
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
                "%s is damaged (%s). It is replaced, and all sources are decoded again.", self._path, error
            )
            self._path.unlink()
            self._sources = _opened(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sources.close()

    def hashes(self) -> "Hashes":
        """Return the SHA-256 of the sources whose rows are intact; other sources are decoded again."""
        every = self._sources.execute("SELECT sha256, rows FROM sources ORDER BY sha256")
        return Hashes(key for key, rows in every if len(key) == _HASH and _is_intact(rows))

    def rows_of(self, source: str, sha256: str) -> Rows:
        """Return the rows for bytes with this SHA-256 (hex), with `source` as the name of their source."""
        key = bytes.fromhex(sha256)
        found = self._sources.execute("SELECT rows FROM sources WHERE sha256 = ?", [key]).fetchone()
        rows = json.loads(zlib.decompress(found[0]))
        return [{**known, "source": source, "path": source + known["path"]} for known in rows]

    def add(self, source: str, rows: Rows) -> None:
        """Store the rows of a source. A rejected source is not stored, so the next run reads it again."""
        if any(row["status"] == REJECTED for row in rows):
            return
        of_bytes = [{**row, "source": "", "path": row["path"].removeprefix(source)} for row in rows]
        self._sources.execute(
            "INSERT OR REPLACE INTO sources VALUES (?, ?)",
            [bytes.fromhex(rows[0]["source_sha256"]), zlib.compress(json.dumps(of_bytes).encode())],
        )


class Hashes:
    """A set of SHA-256 digests that needs 32 bytes per digest, also when it is pickled."""

    def __init__(self, digests: Iterable[bytes]) -> None:
        """Store `digests`, which must be sorted in ascending order."""
        self._bytes = b"".join(digests)

    def __len__(self) -> int:
        return len(self._bytes) // _HASH

    def __getitem__(self, place: int) -> bytes:
        return self._bytes[place * _HASH : (place + 1) * _HASH]

    def __contains__(self, sha256: object) -> bool:
        """Return whether the set contains a digest, given in hex."""
        one = bytes.fromhex(str(sha256))
        return self[bisect_left(self, one)] == one  # past the end, a slice is empty


def _opened(path: Path) -> sqlite3.Connection:
    sources = sqlite3.connect(path, isolation_level=None)
    # Writes do not wait for the disk: no row is lost if the process is killed; after a power failure, sources
    # are decoded again.
    sources.execute("PRAGMA synchronous = OFF")
    sources.execute("PRAGMA journal_mode = TRUNCATE")
    if (state := sources.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        sources.close()
        raise sqlite3.DatabaseError(state)
    sources.execute("CREATE TABLE IF NOT EXISTS sources (sha256 BLOB PRIMARY KEY, rows BLOB NOT NULL)")
    sources.execute("SELECT sha256, rows FROM sources LIMIT 1")  # fails for a database with another schema
    return sources


def _is_intact(rows: Any) -> bool:
    """Return whether the rows of a source are intact, by zlib's checksum."""
    try:
        zlib.decompress(rows)
    except (TypeError, zlib.error):
        return False
    return True
