"""The catalog's file datasets, which write files whole or not at all and check their content.

`preview` returns what Kedro-Viz shows of a dataset; its return annotation selects the kind of preview.
"""

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_filepath_str, get_protocol_and_path
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview, PlotlyPreview, TablePreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset
from pydantic import BaseModel

from mobius_pipeline.pipelines.remedies import made_again
from mobius_pipeline.runtime.addresses import local_output
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_file, read_document
from mobius_pipeline.runtime.remote_files import RemoteFile, explained_system
from mobius_pipeline.runtime.tables import StoredTable

_LISTS = (list, np.ndarray)  # types of a list read from Parquet
# Columns of clip tables that Kedro-Viz shows first and last; the others are between.
_READ_FIRST = ("path", "caption", "reason", "status", "split")
_HASHES = ("likeness", "clip_id", "source_sha256")


def _place(column: str) -> int:
    """Return the sort key of a column: negative for `_READ_FIRST`, positive for hashes, 0 for the others."""
    if column in _READ_FIRST:
        return _READ_FIRST.index(column) - len(_READ_FIRST)
    return 1 + _HASHES.index(column) if column in _HASHES else 0


class _Atomic:
    """Save a file so that its path always has a complete one, the old or the new.

    A local file is written beside its path and renamed. A remote file is written locally and uploaded.
    """

    _filepath: PurePosixPath
    _protocol: str
    _fs: Any

    @property
    def place(self) -> Path | RemoteFile:
        """The file: a local path, or a remote file that fsspec reads."""
        if self._protocol == "file":
            return Path(self._filepath)
        return RemoteFile(
            self._fs, get_filepath_str(self._filepath, self._protocol), f"{self._protocol}://{self._filepath}"
        )

    def save(self, data: Any) -> None:
        """Write `data`.

        Raises:
            MobiusError: If it cannot be written, such as on a full disk; the earlier file is kept.
        """
        place = self.place
        try:
            with _replaced(place) as partial:
                self._write(data, partial)
        except OSError as error:
            raise MobiusError(
                f"Cannot write {place} ({error}). The earlier file, if any, is kept. Free disk space or make "
                "the folder writable, and run again."
            ) from error

    def _write(self, data: Any, partial: Path) -> None:
        raise NotImplementedError

    def _exists(self) -> bool:
        return self.place.exists()


def _replaced(place: Path | RemoteFile) -> AbstractContextManager[Path]:
    if isinstance(place, RemoteFile):
        return place.replaced()
    place.parent.mkdir(parents=True, exist_ok=True)
    return atomic_file(place)


class TableDataset(_Atomic, ParquetDataset):
    """A table of the project as a Parquet file, checked when saving and loading.

    Loading returns an object of the class that `holds` names. A node returns such an object or, if the table
    may be larger than memory, the path of a file below the work directory, which is moved into place as
    it is.
    """

    def __init__(
        self,
        *,
        filepath: str,
        holds: str = "mobius_pipeline.runtime.tables.StoredTable",
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the path, the import path of the table's `StoredTable` class, and the pipeline that writes it.

        `credentials` and `fs_args` are those of Kedro's own datasets.
        """
        with explained_system(filepath):
            super().__init__(filepath=filepath, credentials=credentials, fs_args=fs_args, metadata=metadata)
        self._holds, self._remedy = holds, made_again(made_by)

    def load(self) -> StoredTable:
        """Read the table.

        Raises:
            MobiusError: If it is missing, damaged or lacks required columns.
        """
        kind: type[StoredTable] = load_obj(self._holds)
        return kind.load(self.place, self._remedy)

    def _write(self, data: StoredTable | Path, partial: Path) -> None:
        if isinstance(data, Path):
            shutil.move(data, partial)
        else:
            data.save(partial)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows, with the main columns first and lists as text, which Kedro-Viz needs."""
        table = self.load().rows.head(nrows)
        table = table[sorted(table, key=lambda name: _place(str(name)))]
        lists = [name for name in table if any(isinstance(value, _LISTS) for value in table[name])]
        return TablePreview(table.astype(dict.fromkeys(lists, "str")).to_dict(orient="split"))


class EarlierTableDataset(AbstractDataset[Path | RemoteFile, None]):
    """The table file of an earlier run, which may not exist; loading returns its path, saving is refused."""

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the path, `credentials` and `fs_args`, the same as in the table's own catalog entry."""
        self._table = TableDataset(filepath=filepath, credentials=credentials, fs_args=fs_args)
        self._filepath, self.metadata = self._table._filepath, metadata

    def load(self) -> Path | RemoteFile:
        """Return the file's path, local or remote."""
        return self._table.place

    def save(self, data: None) -> None:
        """Refuse to save.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self._filepath} is a file of an earlier run, not an output.")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._table.place)}


class DocumentDataset(_Atomic, JSONDataset):
    """A JSON document, checked when loading.

    If `holds` names a pydantic model, loading returns an instance of it, and saving takes one.
    """

    def __init__(
        self,
        *,
        filepath: str,
        holds: str | None = None,
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the path, the import path of the document's type, and the pipeline that writes it.

        `credentials` and `fs_args` are those of Kedro's own datasets.
        """
        with explained_system(filepath):
            super().__init__(filepath=filepath, credentials=credentials, fs_args=fs_args, metadata=metadata)
        self._holds, self._remedy = holds, made_again(made_by)

    def load(self) -> Any:
        """Read the document.

        Raises:
            MobiusError: If it is missing, damaged or of another type.
        """
        kind = Any if self._holds is None else load_obj(self._holds)
        return read_document(self.place, kind, self._remedy)

    def _write(self, data: Any, partial: Path) -> None:
        model = isinstance(data, BaseModel)
        text = data.model_dump_json(indent=2) if model else json.dumps(data, **self._save_args)
        partial.write_text(text, encoding="utf-8")

    def preview(self) -> JSONPreview:
        """Return the whole document, with plain values before lists and dictionaries."""
        document = self.load()
        if isinstance(document, BaseModel):
            document = document.model_dump(mode="json")
        if isinstance(document, dict):
            plain = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
            document = {**plain, **document}
        return JSONPreview(json.dumps(document))


class PageDataset(_Atomic, TextDataset):
    """An HTML page, as a local file."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set the path; `metadata` is as in the parent class.

        Redefined because Kedro records a dataset's configuration from its class's own `__init__`.
        """
        _, path = get_protocol_and_path(local_output(filepath, "A page is written to this machine."))
        super().__init__(filepath=path, metadata=metadata)

    def _write(self, data: str, partial: Path) -> None:
        partial.write_text(data, encoding="utf-8")


class CurveDataset(DocumentDataset):
    """Rows of a step and the values measured at it, which Kedro-Viz draws as curves."""

    def __init__(
        self,
        *,
        filepath: str,
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the path; the other arguments are as in the parent class.

        Redefined because Kedro records a dataset's configuration from its class's own `__init__`.
        """
        super().__init__(
            filepath=filepath, made_by=made_by, credentials=credentials, fs_args=fs_args, metadata=metadata
        )

    def preview(self) -> PlotlyPreview:
        """Return a plot with one line per measured value, over the steps; rows may lack values."""
        rows = self.load()
        names = dict.fromkeys(name for row in rows for name in row if name != "step")
        layout = {
            "xaxis": {"title": {"text": "step"}},
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.1},
        }
        return PlotlyPreview({"data": [_line(name, rows) for name in names], "layout": layout})


def _line(name: str, rows: list[dict[str, float]]) -> dict[str, Any]:
    measured = [row for row in rows if name in row]
    steps, values = [row["step"] for row in measured], [row[name] for row in measured]
    return {"type": "scatter", "mode": "lines+markers", "name": name, "x": steps, "y": values}
