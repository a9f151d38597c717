"""The catalog's files: whole, checked where they are loaded, and what Kedro-Viz shows of them.

`preview` is what Kedro-Viz shows of a dataset; its return annotation says how.
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
from mobius_pipeline.runtime.files import read_document, whole_file
from mobius_pipeline.runtime.remote_files import RemoteFile, explained_system
from mobius_pipeline.runtime.tables import StoredTable

_LISTS = (list, np.ndarray)  # as Parquet's lists come back
# Columns of the tables of clips, as Kedro-Viz shows them from the left; the others are between.
_READ_FIRST = ("path", "caption", "reason", "status", "split")
_HASHES = ("likeness", "clip_id", "source_sha256")


def _place(column: str) -> int:
    """A key to sort columns by: negative for what is read first, positive for hashes, 0 for the others."""
    if column in _READ_FIRST:
        return _READ_FIRST.index(column) - len(_READ_FIRST)
    return 1 + _HASHES.index(column) if column in _HASHES else 0


class _Whole:
    """Saves a file so that a whole one is there: the new, or the old.

    On this machine it is written beside its place and renamed; elsewhere it is written here and uploaded.
    """

    _filepath: PurePosixPath
    _protocol: str
    _fs: Any

    @property
    def place(self) -> Path | RemoteFile:
        """Where the file is: on this machine, or where fsspec reads it."""
        if self._protocol == "file":
            return Path(self._filepath)
        return RemoteFile(
            self._fs, get_filepath_str(self._filepath, self._protocol), f"{self._protocol}://{self._filepath}"
        )

    def save(self, data: Any) -> None:
        """Write `data`.

        Raises:
            MobiusError: If it cannot be written, as on a full disk; what was there before is kept.
        """
        place = self.place
        try:
            with _replaced(place) as partial:
                self._write(data, partial)
        except OSError as error:
            raise MobiusError(
                f"Cannot write {place} ({error}). What was there before is kept: make room, or the folder "
                "writable, and run again."
            ) from error

    def _write(self, data: Any, partial: Path) -> None:
        raise NotImplementedError

    def _exists(self) -> bool:
        return self.place.exists()


def _replaced(place: Path | RemoteFile) -> AbstractContextManager[Path]:
    if isinstance(place, RemoteFile):
        return place.replaced()
    place.parent.mkdir(parents=True, exist_ok=True)
    return whole_file(place)


class TableDataset(_Whole, ParquetDataset):
    """A table of the project's own as Parquet, checked where it is loaded.

    A node takes it as an object of the class that `holds` names. It gives such an object, or, where the table
    may be larger than memory, the path of a file below the work directory, which is moved into place.
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
        """Name the file, the `StoredTable` that it is by its import path, and what pipeline writes it.

        `credentials` and `fs_args` are those of Kedro's own datasets.
        """
        with explained_system(filepath):
            super().__init__(filepath=filepath, credentials=credentials, fs_args=fs_args, metadata=metadata)
        self._holds, self._remedy = holds, made_again(made_by)

    def load(self) -> StoredTable:
        """Read the table.

        Raises:
            MobiusError: If it is missing, damaged or not as it must be.
        """
        kind: type[StoredTable] = load_obj(self._holds)
        return kind.load(self.place, self._remedy)

    def _write(self, data: StoredTable | Path, partial: Path) -> None:
        if isinstance(data, Path):
            shutil.move(data, partial)
        else:
            data.save(partial)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Its first rows, what a person reads first; lists are shown as text, which Kedro-Viz cannot else."""
        table = self.load().rows.head(nrows)
        table = table[sorted(table, key=lambda name: _place(str(name)))]
        lists = [name for name in table if any(isinstance(value, _LISTS) for value in table[name])]
        return TablePreview(table.astype(dict.fromkeys(lists, "str")).to_dict(orient="split"))


class EarlierTableDataset(AbstractDataset[Path | RemoteFile, None]):
    """The file of a table as an earlier run left it, if one did; loading gives it, saving is not allowed."""

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the file as the entry of the table does, with the same `credentials` and `fs_args`."""
        self._table = TableDataset(filepath=filepath, credentials=credentials, fs_args=fs_args)
        self._filepath, self.metadata = self._table._filepath, metadata

    def load(self) -> Path | RemoteFile:
        """Return the file."""
        return self._table.place

    def save(self, data: None) -> None:
        """Refuse.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self._filepath} is what an earlier run left, not an output.")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._table.place)}


class RecordDataset(_Whole, JSONDataset):
    """A JSON document, checked where it is loaded.

    Where it holds a pydantic model, loading gives an instance, and saving takes one.
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
        """Name the file, the type that it must hold by its import path, and what pipeline writes it.

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
        """The whole document, its texts and numbers before what holds more."""
        document = self.load()
        if isinstance(document, BaseModel):
            document = document.model_dump(mode="json")
        if isinstance(document, dict):
            plain = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
            document = {**plain, **document}
        return JSONPreview(json.dumps(document))


class PageDataset(_Whole, TextDataset):
    """A page that shows videos beside it."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the file; why here, see `VideosDataset`."""
        _, path = get_protocol_and_path(local_output(filepath, "A page plays the videos that lie beside it."))
        super().__init__(filepath=path, metadata=metadata)

    def _write(self, data: str, partial: Path) -> None:
        partial.write_text(data, encoding="utf-8")


class CurveDataset(RecordDataset):
    """Rows of a step and what was measured at it, which Kedro-Viz draws."""

    def __init__(
        self,
        *,
        filepath: str,
        made_by: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """As a record's; why here, see `VideosDataset`."""
        super().__init__(
            filepath=filepath, made_by=made_by, credentials=credentials, fs_args=fs_args, metadata=metadata
        )

    def preview(self) -> PlotlyPreview:
        """A line for each thing measured, over the steps; not every row has every one."""
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
