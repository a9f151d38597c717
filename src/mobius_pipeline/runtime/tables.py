"""The project's Parquet tables: written with checksums, and validated when they are written and read.

pandas is imported where it is used: decoding processes import this module and do not need it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import OUTSIDE, unusable
from mobius_pipeline.runtime.remote_files import Readable

if TYPE_CHECKING:
    import pandas as pd

CHECKSUMS: dict[str, Any] = {"write_page_checksum": True}  # of all writers, to detect changed bits
_LETTERS = 80  # characters of a value that an error shows


class Condition(NamedTuple):
    """A condition on all rows: `holds` returns a mask of the rows, and an error shows the row's `column`."""

    column: str
    holds: Callable[[pa.Table], Any]
    required: str


@dataclass(frozen=True)
class Table:
    """The required content of a table.

    Attributes:
        columns: Required columns; a table may have others. Columns that are not nullable, and their lists,
            have no nulls.
        unique: Columns whose values are all different.
        rules: Further conditions on the rows, checked once columns and types are right.
    """

    columns: pa.Schema
    unique: tuple[str, ...] = ()
    rules: tuple[Condition, ...] = ()


@dataclass(frozen=True, eq=False)
class StoredTable:
    """A table that one node passes to the next.

    Attributes:
        holds: The required content of all tables of the class.
        rows: The table itself.
    """

    holds: ClassVar[Table] = Table(pa.schema([]))
    rows: "pd.DataFrame"

    @classmethod
    def load(cls, path: Readable, remedy: str) -> Self:
        """Read the table from a Parquet file.

        Raises:
            MobiusError: As in `read_table`.
        """
        return cls(read_table(path, cls.holds, remedy).to_pandas())

    def save(self, path: Path) -> None:
        """Write the table as Parquet.

        Raises:
            MobiusError: If it lacks the required content, which the next stage would refuse.
        """
        check_frame(
            self.rows, self.holds, f"The {type(self).__name__}", "The node that returned it is wrong."
        )
        self.rows.to_parquet(path, **CHECKSUMS)


def read_table(path: Readable, kind: Table, remedy: str) -> pa.Table:
    """Read and validate a table that the project has written.

    Args:
        path: The file.
        kind: The required content.
        remedy: A sentence with the command that creates the file again.

    Raises:
        MobiusError: If it is missing, damaged or invalid, with the file, the row, the column and the remedy.
    """
    table = load_table(path, remedy)
    check_table(table, kind, path, remedy)
    return table


def load_table(path: Readable, remedy: str) -> pa.Table:
    """Read a table and verify its checksums, not its content; Arrow's metadata are dropped.

    Raises:
        MobiusError: If it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file, page_checksum_verification=True).read()
        table = table.replace_schema_metadata()
        table.validate(full=True)
    except MobiusError:  # from a remote file: it says why it cannot be read
        raise
    except FileNotFoundError as error:
        raise unusable(path, "there is no such file", remedy) from error
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise unusable(path, str(error).partition("\n")[0].rstrip("."), remedy) from error
    return table


def check_frame(frame: "pd.DataFrame", kind: Table, what: str, remedy: str) -> None:
    """Refuse a data frame without the required content of a table.

    Raises:
        MobiusError: As `check_table`.
    """
    names = [name for name in kind.columns.names if name in frame]
    try:
        table = pa.Table.from_pandas(frame[names], preserve_index=False)
    except pa.ArrowException as error:  # for example, a column of several types
        raise unusable(what, " ".join(map(str, error.args)), remedy) from error
    check_table(table, kind, what, remedy)


def check_table(table: pa.Table, kind: Table, path: Readable | str, remedy: str) -> None:
    """Refuse a table without the required content.

    Raises:
        MobiusError: With the column and, if values are wrong, the first such row.
    """
    for field in kind.columns:
        count = table.schema.names.count(field.name)
        if count != 1:
            what = "is missing" if count == 0 else "is there twice"
            raise unusable(path, f"the column {field.name} {what}", remedy)
        found = table.schema.field(field.name).type
        if not _fits(found, field.type, len(table)):
            raise unusable(path, f"the column {field.name} holds {found}, not {field.type}", remedy)
    if len(table) == 0:
        return  # the columns may have no type, since no value shows it
    for rule in (*_filled(kind), *(_all_different(column) for column in kind.unique), *kind.rules):
        holds = np.asarray(pc.fill_null(rule.holds(table), False)).astype(bool)
        if not holds.all():
            row = int(holds.argmin())
            value = repr(table[rule.column][row].as_py())
            shown = value if len(value) <= _LETTERS else f"{value[:_LETTERS]}…"
            more = f" (and {count} other rows)" if (count := int((~holds).sum()) - 1) else ""
            what = f"row {row} (the first is 0), column {rule.column}: {shown} is not {rule.required}{more}"
            raise unusable(path, what, remedy)


def _fits(found: pa.DataType, asked: pa.DataType, rows: int) -> bool:
    """Return whether a column has the required type, in any of Arrow's layouts of it."""
    if pa.types.is_null(found):
        return rows == 0
    if pa.types.is_string(asked):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    if pa.types.is_list(asked):
        if not (pa.types.is_list(found) or pa.types.is_large_list(found)):
            return False
        inner = found.value_type
        return pa.types.is_null(inner) or _fits(inner, asked.value_type, rows)
    if pa.types.is_struct(asked):
        return bool(pa.types.is_struct(found) and all(found.get_field_index(one.name) >= 0 for one in asked))
    return bool(found == asked)


def _filled(kind: Table) -> list[Condition]:
    """Return the rules of columns that are not nullable."""
    required = [field for field in kind.columns if not field.nullable]
    return [
        *(_present(field.name) for field in required),
        *(
            in_lists(field.name, pc.is_valid, "a list without nulls")
            for field in required
            if pa.types.is_list(field.type)
        ),
    ]


def _present(column: str) -> Condition:
    return Condition(column, lambda table: pc.is_valid(table[column]), "a value")


def _all_different(column: str) -> Condition:
    def holds(table: pa.Table) -> Any:
        import pandas as pd

        return pa.array(~pd.Series(table[column].to_pylist(), dtype="object").duplicated().to_numpy())

    return Condition(column, holds, "in one row alone")


def in_lists(column: str, holds: Callable[[Any], Any], required: str) -> Condition:
    """Return a rule for all elements of a column's lists."""

    def of_rows(table: pa.Table) -> Any:
        lists = table[column].combine_chunks()
        bad = pc.invert(pc.fill_null(holds(pc.list_flatten(lists)), False))
        kept = np.ones(len(table), dtype=bool)
        kept[np.asarray(pc.list_parent_indices(lists).filter(bad))] = False
        return pa.array(kept)

    return Condition(column, of_rows, required)


def matching(column: str, pattern: str, required: str) -> Condition:
    """Return a rule that every text matches a regular expression."""
    return Condition(column, lambda table: pc.match_substring_regex(table[column], pattern), required)


def one_of(column: str, values: Sequence[str]) -> Condition:
    """Return a rule that every text is one of `values`."""
    return Condition(column, lambda table: pc.is_in(table[column], pa.array(values)), " or ".join(values))


def inside(column: str, folder: str) -> Condition:
    """Return a rule that no path leads out of the folder that it is relative to."""
    return Condition(
        column,
        lambda table: pc.invert(pc.match_substring_regex(table[column], OUTSIDE)),
        f"a path inside {folder}",
    )


def at_least(column: str, least: int) -> Condition:
    """Return a rule that every number is at least `least`."""
    return Condition(column, lambda table: pc.greater_equal(table[column], least), f"{least} or more")
