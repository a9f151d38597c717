"""The catalog's own dataset: a folder that a node fills and the catalog publishes whole."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from mobius_pipeline.files import move_folder


class FolderDataset(AbstractDataset[Path, Path]):
    """A folder of files.

    A node fills a folder under the work directory and returns its path; saving moves that folder into place
    in one rename, so the published folder is whole or absent. A node that keeps its folder up to date in
    place (the latents store) returns the published path itself. Loading gives the path.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the folder; `metadata` is Kedro-Viz's and not read here."""
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder's path.

        Raises:
            DatasetError: If the folder does not exist.
        """
        path = Path(self._filepath)
        if not path.is_dir():
            raise DatasetError(
                f"There is no folder {path}. Run the pipeline that writes it (see `kedro registry list`), "
                "or mend its `filepath` in conf/base/catalog.yml."
            )
        return path

    def save(self, data: Path) -> None:
        """Publish the folder `data`."""
        target = Path(self._filepath)
        if data.resolve() != target.resolve():
            move_folder(data, target)

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
