"""Read tables of files and captions: CSV, JSON lines or Parquet, one row per file or per caption.

| column | content |
| --- | --- |
| file, or file_name | POSIX path, relative to the folder of clips |
| *_file_name | if there is neither of these: all such columns, as in Hugging Face's VideoFolder |
| file_names, *_file_names | likewise, a list of files (JSON lines and Parquet) |
| caption, or text | caption of each file of the row; may be empty |
| captions | list of captions (JSON lines and Parquet; CSV takes one row per caption) |
| group | may be empty; all files of a group have the same split |
| sha256 | only in a listing: SHA-256 of the file, hex; may be empty; a file with other bytes is rejected |
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobius_pipeline.ingest.listing_index import ListingRow
from mobius_pipeline.ingest.walk import Tree
from mobius_pipeline.runtime.errors import MobiusError

_COLUMNS = ("file", "caption", "captions", "group", "sha256")
_OTHER_NAMES = {"file_name": "file", "text": "caption"}  # as Hugging Face calls them
_NAMES_FILES = re.compile(r"(.+_)?file_names?")  # VideoFolder's names for columns of files
_SEPARATORS = re.compile("[;|\t]")  # column separators that are not supported
_SHA256 = re.compile("[0-9a-f]{64}")
_ROWS_AT_ONCE = 10_000

Numbered = Iterator[tuple[int, Any]]  # number of a line or row, from 1, and its content


def find_table(folder: Path, tree: Tree, name: str) -> Path | None:
    """Find `name`.csv, .jsonl or .parquet (in any case) directly in `folder`; return None if there is none.

    Raises:
        MobiusError: If there are several, or it must not be opened.
    """
    names = {f"{name}{suffix}" for suffix in READERS}
    if refused := [table for table in tree.refused if table.lower() in names]:
        raise MobiusError(f"{folder / refused[0]}: {tree.refused[refused[0]]}")
    found = [table for table in tree.files if table.lower() in names]
    if len(found) > 1:
        raise MobiusError(f"{folder} holds {' and '.join(found)}. Keep one of them.")
    return folder / found[0] if found else None


def read_table(path: Path, captioned: bool) -> Iterator[ListingRow]:
    """Yield the rows of a table, one per file; file names are not normalised.

    Args:
        path: The table; its suffix gives the format.
        captioned: Whether a missing column of captions is an error.

    Raises:
        MobiusError: If a line is damaged or lacks a column, with its number.
    """
    suffix = path.suffix.lower()
    place = "row" if suffix == ".parquet" else "line"
    with _readable(path):
        for number, written in READERS[suffix](path):
            record = _by_our_names(written)
            try:
                for file in _files(record, captioned, written):
                    yield ListingRow(file, captions_of(record), _sha256(record), _group(record))
            except ValueError as error:
                raise MobiusError(f"{path}, {place} {number}: {error}") from error


def lacks_columns(path: Path) -> str:
    """Return which columns a table of captions lacks and which it has; "" if it lacks none.

    Raises:
        MobiusError: If the first row is damaged.
    """
    with _readable(path):
        _, first = next(READERS[path.suffix.lower()](path), (0, None))
    record = _by_our_names(first)
    return "" if first is None else _missing(record, True, first)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise MobiusError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    except OSError as error:
        raise MobiusError(f"{path} cannot be read: {error.strerror or error}") from error


def _by_our_names(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    ours = {ours: record[name] for name, ours in _OTHER_NAMES.items() if name in record} | record
    if "file" in ours or not (columns := file_columns(record)):
        return ours
    named = [record[name] if isinstance(record[name], list) else [record[name]] for name in columns]
    return ours | {"file": [name for names in named for name in names if name not in (None, "")]}


def file_columns(columns: Iterable[Any]) -> list[str]:
    """Return the columns that name files, by the rule of Hugging Face's VideoFolder."""
    return [name for name in columns if isinstance(name, str) and _NAMES_FILES.fullmatch(name)]


def _csv_rows(path: Path) -> Numbered:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            yield from ((rows.line_num, row) for row in rows)
        except csv.Error as error:
            first_line = rows.line_num + 1  # an unclosed quote swallows all lines after it
            raise MobiusError(f"{path}, line {first_line}: damaged ({error})") from error


def _json_lines(path: Path) -> Numbered:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise MobiusError(f"{path}, line {number}: damaged JSON ({error})") from error


def _parquet_rows(path: Path) -> Numbered:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            read = {*_COLUMNS, *_OTHER_NAMES, *file_columns(names)}
            columns = [name for name in names if name in read]
            batches = file.iter_batches(_ROWS_AT_ONCE, columns=columns)
            yield from enumerate((record for batch in batches for record in batch.to_pylist()), 1)
    except pa.ArrowException as error:
        raise MobiusError(f"{path} is damaged or not a Parquet file ({error})") from error


READERS: dict[str, Callable[[Path], Numbered]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_lines,
    ".parquet": _parquet_rows,
}


def _missing(record: Any, captioned: bool, written: Any) -> str:
    """Return which columns a row lacks and which it has; "" if it lacks none."""
    if not isinstance(record, dict):
        return 'not an object such as {"file": "a.mp4", "caption": "a cat"}'
    missing = ["caption"] if captioned and record.keys().isdisjoint({"caption", "captions"}) else []
    if missing := [*missing, *({"file"} - record.keys())]:
        return f"lacks the column {' and '.join(missing)}. {_header(written)}"
    return ""


def _files(record: Any, captioned: bool, written: Any) -> list[str]:
    if missing := _missing(record, captioned, written):
        raise ValueError(missing)
    if None in record:  # csv.DictReader stores surplus fields under None
        raise ValueError("more fields than columns. Put a caption with commas in double quotes.")
    files = record["file"] if isinstance(record["file"], list) else [record["file"]]
    if not files:
        raise ValueError(f"names no file in {', '.join(file_columns(record))}")
    if wrong := [file for file in files if not isinstance(file, str) or not file]:
        raise ValueError(f"`file` must be a path, not {wrong[0]!r}")
    return list(map(_text, files))


def _header(record: dict[str, Any]) -> str:
    """Describe the columns that a table has, to explain a missing one."""
    seen = [name for name in record if name is not None]
    hint = " Separate columns by commas." if any(map(_SEPARATORS.search, seen)) else ""
    return f"It has {', '.join(map(repr, seen)) or 'none'}.{hint}"


def captions_of(record: dict[str, Any]) -> list[str]:
    """Return the captions of a record: `caption`, then `captions`.

    Raises:
        ValueError: If they are not strings.
    """
    one, several = record.get("caption"), record.get("captions") or []
    if not isinstance(several, list):
        raise ValueError("`captions` must be a list of strings. In CSV, use one row per `caption`.")
    captions = [caption for caption in [one, *several] if caption is not None]
    if wrong := [caption for caption in captions if not isinstance(caption, str)]:
        raise ValueError(f"a caption must be a string, not {wrong[0]!r}")
    return [_text(caption) for caption in captions]


def _sha256(record: dict[str, Any]) -> str:
    sha256 = str(record.get("sha256") or "").strip().lower()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise ValueError(f"`sha256` must be 64 hexadecimal digits or empty, not {record['sha256']!r}")
    return sha256


def _group(record: dict[str, Any]) -> str:
    group = record.get("group")
    if group is not None and not isinstance(group, str):
        raise ValueError(f"`group` must be a string or empty, not {group!r}")
    return _text((group or "").strip())


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character (a lone surrogate) in {value!r}") from error
    return value
