"""Decide which folders outside the folder of clips links may lead into: DVC's cache, and configured ones."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mobius_pipeline.runtime.addresses import local_path
from mobius_pipeline.runtime.errors import MobiusError


class Allowed:
    """The folders that links may lead into; resolved when the first link leads outside."""

    def __init__(self, folders: Sequence[str] = (), project: Path | None = None) -> None:
        """Allow `folders`, relative to `project`, and the project's DVC cache, if there is one."""
        self._named, self._project = folders, project

    @cached_property
    def _folders(self) -> list[Path]:
        base = self._project or Path()
        named = [(base / local_path(folder).expanduser()).resolve() for folder in self._named]
        return named + ([cache.resolve() for cache in dvc_caches(self._project)] if self._project else [])

    def __contains__(self, target: object) -> bool:
        """Return whether a path (without links) is one of the folders or lies in one."""
        return any(Path(str(target)).is_relative_to(folder) for folder in self._folders)


def dvc_caches(project: Path) -> list[Path]:
    """Return the cache folder that the project's DVC configuration names; empty without DVC.

    With `cache.type symlink`, DVC replaces each file by a link into it.

    Raises:
        MobiusError: If DVC's configuration cannot be read.
    """
    from dvc.config import Config, ConfigError
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        folder = Repo.find_dvc_dir(str(project))
        return [Path(Config(folder)["cache"].get("dir") or Path(folder, "cache"))]
    except NotDvcRepoError:
        return []
    except ConfigError as error:
        raise MobiusError(
            f"A link leads outside the folder of clips. It cannot be checked against DVC's cache, because "
            f"DVC's configuration for {project} is damaged ({error}): see `dvc config --list`."
        ) from error
