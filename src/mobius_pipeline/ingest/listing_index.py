"""Index rows of listings and tables by file, on disk: a listing may name more files than fit in memory."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mobius_pipeline.runtime.errors import MobiusError


class ListingRow(NamedTuple):
    """A row of a table: a file, its captions, its SHA-256 (hex, or "") and its group (or "")."""

    file: str
    captions: list[str]
    sha256: str = ""
    group: str = ""


class ListingIndex:
    """Rows by file, in a temporary SQLite database that is deleted when the process ends."""

    def __init__(self, rows: Iterable[ListingRow] = ()) -> None:
        """Create the index with `rows`; several rows may name the same file."""
        self._table = sqlite3.connect("", isolation_level=None)  # "": a temporary file that SQLite deletes
        self._table.execute("PRAGMA journal_mode = OFF")  # a temporary database needs no recovery
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
        """Return the number of distinct files."""
        (count,) = self._table.execute("SELECT COUNT(DISTINCT file) FROM listing").fetchone()
        return int(count)

    def captions(self, file: str) -> list[str]:
        """Return the captions of a file, in the order of the rows."""
        query = "SELECT caption FROM listing WHERE file = ? AND caption IS NOT NULL ORDER BY rowid"
        return [caption for (caption,) in self._table.execute(query, (file,))]

    def hashes(self, file: str) -> list[str]:
        """Return the distinct SHA-256 values of a file: none, one, or several that disagree."""
        query = "SELECT DISTINCT sha256 FROM listing WHERE file = ? AND sha256 != ''"
        return [sha256 for (sha256,) in self._table.execute(query, (file,))]

    def group(self, file: str) -> str:
        """Return the group of a file, "" if there is none.

        Raises:
            MobiusError: If rows give different groups.
        """
        query = "SELECT DISTINCT grouped FROM listing WHERE file = ? AND grouped != '' ORDER BY grouped"
        found = [group for (group,) in self._table.execute(query, (file,))]
        if len(found) > 1:
            raise MobiusError(f"{file} is given the groups {' and '.join(found)}. Give it only one.")
        return found[0] if found else ""

    def claim(self, file: str) -> bool:
        """Mark a file as existing; return whether a row names it."""
        return self._table.execute("UPDATE listing SET claimed = 1 WHERE file = ?", (file,)).rowcount > 0

    def unclaimed(self) -> Iterator[str]:
        """Return the files that were not claimed, sorted."""
        query = "SELECT DISTINCT file FROM listing WHERE NOT claimed ORDER BY file"
        return (file for (file,) in self._table.execute(query))
