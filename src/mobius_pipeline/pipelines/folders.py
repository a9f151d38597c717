"""The catalog's folder datasets, which publish a folder in one rename, and their previews in Kedro-Viz."""

import base64
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_protocol_and_path
from kedro.utils import load_obj
from kedro_datasets._typing import ImagePreview, TablePreview

from mobius_pipeline.pipelines.remedies import made_again
from mobius_pipeline.runtime.addresses import local_output, local_path
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import move_folder


class FolderDataset(AbstractDataset[Any, Any]):
    """A folder of files.

    A node fills a folder under the work directory. Saving moves it into place in one rename, so the published
    folder is complete or absent. Nodes take and return an object of the class that `holds` names: its `load`
    opens a folder, and its `folder` is the path. Without `holds` they take and return the path.
    """

    def __init__(
        self,
        *,
        filepath: str,
        holds: str | None = None,
        made_by: str | None = None,
        remedy: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the path, the import path of the folder's class, and the remedy if the folder is missing.

        `metadata` is read by Kedro-Viz.

        Raises:
            MobiusError: If the path is an address: folders are renamed, and their files mapped into memory.
        """
        self._holds = holds
        self._filepath = _of_this_machine(filepath, written=made_by is not None)
        self._remedy = remedy or made_again(made_by)
        self.metadata = metadata

    def load(self) -> Any:
        """Open the folder, or return its path.

        Raises:
            MobiusError: If the folder does not exist, or its content is not as expected.
        """
        folder = self._folder()
        return folder if self._holds is None else load_obj(self._holds).load(folder)

    def save(self, data: Any) -> None:
        """Publish the folder `data`, or the folder of the object `data`."""
        folder, target = data if isinstance(data, Path) else data.folder, Path(self._filepath)
        if folder.resolve() != target.resolve():
            move_folder(folder, target)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Return the first files and their sizes."""
        folder = self._folder()
        rows = [
            [path.relative_to(folder).as_posix(), f"{path.stat().st_size:,}"]
            for path in islice(_files(folder), nrows)
        ]
        return TablePreview({"index": list(range(len(rows))), "columns": ["file", "bytes"], "data": rows})

    def _folder(self) -> Path:
        path = Path(self._filepath)
        if not path.is_dir():
            raise MobiusError(f"There is no folder {path}. {self._remedy}")
        return path

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class StoreDataset(FolderDataset):
    """A folder that its node updates in place; saving never replaces it.

    The node returns the store, whose `root` is the folder's path.
    """

    def __init__(
        self, *, filepath: str, holds: str, made_by: str | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Set the path; the other arguments are as in the parent class.

        Redefined because Kedro records a dataset's configuration from its class's own `__init__`.
        """
        super().__init__(filepath=filepath, holds=holds, made_by=made_by, metadata=metadata)

    def save(self, data: Any) -> None:
        """Check that the node updated this folder; nothing is written.

        Raises:
            MobiusError: If the node updated another folder; replacing this one would lose its content.
        """
        filled, target = data.root, Path(self._filepath)
        if filled.resolve() != target.resolve():
            raise MobiusError(
                f"{filled} was filled instead of {target}, which is left unchanged. Correct `latents_store` "
                "in conf/base/catalog.yml, which must name the same folder as `latents`."
            )


class PlaceDataset(AbstractDataset[Path, None]):
    """A path of the project, which may not exist; loading returns it, saving is refused."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set the path; Kedro resolves it against the project's folder.

        Raises:
            MobiusError: If it is an address.
        """
        self._filepath, self.metadata = _of_this_machine(filepath, written=False), metadata

    def load(self) -> Path:
        """Return the path."""
        return Path(self._filepath)

    def save(self, data: None) -> None:
        """Refuse to save.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self._filepath} is an input path, not an output.")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class VideosDataset(FolderDataset):
    """A folder of videos; Kedro-Viz shows its `grid.png`, if there is one, or frames of the videos."""

    def __init__(
        self,
        *,
        filepath: str,
        holds: str | None = None,
        made_by: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the path; the other arguments are as in the parent class.

        Redefined because Kedro records a dataset's configuration from its class's own `__init__`.
        """
        super().__init__(filepath=filepath, holds=holds, made_by=made_by, metadata=metadata)

    def preview(self, videos: int = 8, frames: int = 8) -> ImagePreview:
        """Return `grid.png` or, without one, an image with the first frames of each video in a row."""
        folder = self._folder()
        if (whole := folder / "grid.png").is_file():
            png = whole.read_bytes()
        else:
            png = _strips(sorted(folder.glob("*.mp4"))[:videos], frames)
        return ImagePreview(base64.b64encode(png).decode())


def _of_this_machine(filepath: str, written: bool) -> PurePosixPath:
    """Return the path of a local folder, which may start with `file://`."""
    _, path = get_protocol_and_path(filepath) if filepath.startswith("file://") else ("file", filepath)
    if written:
        local_output(path, "A folder is published in one rename, and its files are mapped into memory.")
    return PurePosixPath(local_path(path))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _strips(paths: list[Path], count: int) -> bytes:
    """Return a PNG with one row of frames per video; all videos must have the same size."""
    from PIL import Image

    from mobius_pipeline.media.decode import open_media

    rows = []
    for path in paths:
        with open_media(path) as media:
            rows.append(np.concatenate([frame.rgb() for frame in islice(media.frames, count)], axis=1))
    png = BytesIO()
    Image.fromarray(np.concatenate(rows)).save(png, "PNG")
    return png.getvalue()
