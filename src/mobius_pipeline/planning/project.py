"""What `mobius plan` reads of the project in the working directory: its base model and its clip format."""

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
    """Where the base model lies once `base` has run, and what the models see of a clip."""

    base: Path
    clip: ClipFormat


def find_project(root: Path) -> Project | None:
    """Read the project at `root` as Kedro does, in `KEDRO_ENV` or `local`; None where there is none.

    Raises:
        MobiusError: If its globals cannot be read or have no clip format.
    """
    if not (file := root / "conf/base" / GLOBALS).is_file():
        return None
    try:
        written = merged(root, GLOBALS)
        return Project(Path(written["data"]) / "06_models/base", ClipFormat(**written["clip"]))
    except (OmegaConfBaseException, OSError, ValidationError, KeyError, TypeError) as error:
        raise MobiusError(
            f"{file} names no clip format and data folder ({error}). Repair its `clip` and `data`, or "
            "name a model with --config."
        ) from error
