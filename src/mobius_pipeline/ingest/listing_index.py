"""Rows of listings and tables by file, on disk: a listing may name more files than fit in memory."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mobius_pipeline.runtime.errors import MobiusError


class ListingRow(NamedTuple):
    """A row of a table: a file, its captions, the SHA-256 of its bytes (hex) or "", its group or ""."""

    file: str
    captions: list[str]
    sha256: str = ""
    group: str = ""


class ListingIndex:
    """Rows by file, in a temporary database that is deleted with the process."""

    def __init__(self, rows: Iterable[ListingRow] = ()) -> None:
        """Add rows, several of which may name one file."""
        self._table = sqlite3.connect("", isolation_level=None)  # SQLite's name for a file that it deletes
        self._table.execute("PRAGMA journal_mode = OFF")  # it is temporary
        self._table.execute(
            "CREATE TABLE listing (file TEXT, caption TEXT, sha256 TEXT, grouped TEXT, claimed INTEGER)"
        )
        self._table.execute("CREATE INDEX by_file ON listing (file)")
        self.add(rows)

    def add(self, rows: Iterable[ListingRow]) -> None:
        """Add rows."""
        nothing: list[str | None] = [None]
        several = (
            (row.file, caption, row.sha256, row.group) for row in rows for caption in row.captions or nothing
        )
        self._table.execute("BEGIN")
        self._table.executemany("INSERT INTO listing VALUES (?, ?, ?, ?, 0)", several)
        self._table.execute("COMMIT")

    def count(self) -> int:
        """Number of files that are named."""
        (count,) = self._table.execute("SELECT COUNT(DISTINCT file) FROM listing").fetchone()
        return int(count)

    def captions(self, file: str) -> list[str]:
        """Captions of a file, in the rows' order."""
        query = "SELECT caption FROM listing WHERE file = ? AND caption IS NOT NULL ORDER BY rowid"
        return [caption for (caption,) in self._table.execute(query, (file,))]

    def hashes(self, file: str) -> list[str]:
        """The SHA-256 values that rows give for a file: none, one, or several that disagree."""
        query = "SELECT DISTINCT sha256 FROM listing WHERE file = ? AND sha256 != ''"
        return [sha256 for (sha256,) in self._table.execute(query, (file,))]

    def group(self, file: str) -> str:
        """The group of a file, "" if none is given.

        Raises:
            MobiusError: If it is given several.
        """
        query = "SELECT DISTINCT grouped FROM listing WHERE file = ? AND grouped != '' ORDER BY grouped"
        found = [group for (group,) in self._table.execute(query, (file,))]
        if len(found) > 1:
            raise MobiusError(f"{file} is given the groups {' and '.join(found)}. Give it one.")
        return found[0] if found else ""

    def claim(self, file: str) -> bool:
        """Whether a file is named; it no longer counts as `unclaimed`."""
        return self._table.execute("UPDATE listing SET claimed = 1 WHERE file = ?", (file,)).rowcount > 0

    def unclaimed(self) -> Iterator[str]:
        """The names that no file has claimed, sorted."""
        query = "SELECT DISTINCT file FROM listing WHERE NOT claimed ORDER BY file"
        return (file for (file,) in self._table.execute(query))
