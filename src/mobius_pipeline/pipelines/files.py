"""The catalog's files: whole, checked where they are loaded, and what Kedro-Viz shows of them.

`preview` is what Kedro-Viz shows of a dataset; its return annotation says how.
"""

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from kedro.io import DatasetError
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview, PlotlyPreview, TablePreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset
from pydantic import BaseModel

from mobius_pipeline.pipelines.remedies import made_again
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document, whole_file
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
    """Saves a file beside its place and renames it, so that a whole one is there: the new, or the old."""

    _filepath: PurePosixPath

    def save(self, data: Any) -> None:
        """Write `data`.

        Raises:
            MobiusError: If it cannot be written, as on a full disk; what was there before is kept.
        """
        target = Path(self._filepath)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as partial:
                self._write(data, partial)
        except (OSError, DatasetError) as error:
            # Kedro wraps what saving raises.
            cause = error.__cause__ if isinstance(error, DatasetError) else error
            if not isinstance(cause, OSError):
                raise
            raise MobiusError(
                f"Cannot write {target} ({cause}). What was there before is kept: make room, or the folder "
                "writable, and run again."
            ) from cause

    def _write(self, data: Any, partial: Path) -> None:
        self._beside = PurePosixPath(partial)
        super().save(data)  # type: ignore[misc]

    def _get_save_path(self) -> PurePosixPath:
        return self._beside


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
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the file, the `StoredTable` that it is by its import path, and what pipeline writes it."""
        super().__init__(filepath=filepath, metadata=metadata)
        self._holds, self._remedy = holds, made_again(made_by)

    def load(self) -> StoredTable:
        """Read the table.

        Raises:
            MobiusError: If it is missing, damaged or not as it must be.
        """
        kind: type[StoredTable] = load_obj(self._holds)
        return kind.load(Path(self._filepath), self._remedy)

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
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the file, the type that it must hold by its import path, and what pipeline writes it."""
        super().__init__(filepath=filepath, metadata=metadata)
        self._holds, self._remedy = holds, made_again(made_by)

    def load(self) -> Any:
        """Read the document.

        Raises:
            MobiusError: If it is missing, damaged or of another type.
        """
        kind = Any if self._holds is None else load_obj(self._holds)
        return read_document(Path(self._filepath), kind, self._remedy)

    def _write(self, data: Any, partial: Path) -> None:
        if isinstance(data, BaseModel):
            partial.write_text(data.model_dump_json(indent=2), encoding="utf-8")
        else:
            super()._write(data, partial)

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
    """A page of text."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the file; why here, see `VideosDataset`."""
        super().__init__(filepath=filepath, metadata=metadata)


class CurveDataset(RecordDataset):
    """Rows of a step and what was measured at it, which Kedro-Viz draws."""

    def __init__(
        self, *, filepath: str, made_by: str | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Name the file and the pipeline that writes it."""
        super().__init__(filepath=filepath, made_by=made_by, metadata=metadata)

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
