"""Read a project's configuration files without Kedro."""

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def merged(project: Path, name: str) -> dict[str, Any]:
    """Return the merged content of the file `name` in `conf/base/` and in Kedro's environment.

    The environment is `KEDRO_ENV`, or `local`. Its keys override those of the base; missing files add none.
    """
    environment = os.environ.get("KEDRO_ENV") or "local"
    files = (project / "conf" / one / name for one in ("base", environment))
    layers = [OmegaConf.load(file) for file in files if file.is_file()]
    return dict(OmegaConf.to_container(OmegaConf.merge({}, *layers), resolve=True))  # type: ignore[arg-type]
