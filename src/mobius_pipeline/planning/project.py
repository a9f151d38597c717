"""Find the base model and the clip format of the project in the working directory, for `mobius plan`."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.conf_files import merged
from mobius_pipeline.runtime.errors import MobiusError

GLOBALS = "globals.yml"


@dataclass(frozen=True)
class Project:
    """The folder of the base model, which the pipeline `base` writes, and the clip format."""

    base: Path
    clip: ClipFormat


def find_project(root: Path) -> Project | None:
    """Read the project at `root` in the environment `KEDRO_ENV`, by default `local`; None without a project.

    Raises:
        MobiusError: If its globals cannot be read or have no data folder or clip format.
    """
    if not (file := root / "conf/base" / GLOBALS).is_file():
        return None
    try:
        written = merged(root, GLOBALS)
        return Project(root / written["data"] / "06_models/base", ClipFormat(**written["clip"]))
    except (OmegaConfBaseException, OSError, ValidationError, KeyError, TypeError) as error:
        raise MobiusError(
            f"{file} has no valid data folder and clip format ({error}). Correct its `data` and `clip`, or "
            "name a model with --config."
        ) from error
