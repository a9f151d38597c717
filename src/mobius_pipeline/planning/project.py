"""What `mobius plan` reads of the project in the working directory: its base model and its clip format."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError

GLOBALS = "globals.yml"


@dataclass(frozen=True)
class Project:
    """Where the base model lies once `base` has run, and what the models see of a clip."""

    base: Path
    clip: ClipFormat


def find_project(root: Path) -> Project | None:
    """Read the project at `root` as Kedro does, in the environment `KEDRO_ENV`; None where there is none.

    Raises:
        MobiusError: If its globals cannot be read or have no clip format.
    """
    files = [root / "conf" / name / GLOBALS for name in ("base", os.environ.get("KEDRO_ENV", "base"))]
    if not files[0].is_file():
        return None
    try:
        layers = (OmegaConf.load(file) for file in files if file.is_file())
        merged: Any = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=True)
        return Project(Path(merged["data"]) / "06_models/base", ClipFormat(**merged["clip"]))
    except (OmegaConfBaseException, OSError, ValidationError, KeyError, TypeError) as error:
        raise MobiusError(
            f"{files[0]} names no clip format and data folder ({error}). Repair its `clip` and `data`, or "
            "name a model with --config."
        ) from error
