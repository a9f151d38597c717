"""A project's configuration files, read outside of Kedro."""

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def merged(project: Path, name: str) -> dict[str, Any]:
    """What the file `name` holds in `conf/base/` and in Kedro's environment: `KEDRO_ENV`, or `local`.

    The environment's keys precede; a file that is missing adds none.
    """
    environment = os.environ.get("KEDRO_ENV") or "local"
    files = (project / "conf" / one / name for one in ("base", environment))
    layers = [OmegaConf.load(file) for file in files if file.is_file()]
    return dict(OmegaConf.to_container(OmegaConf.merge({}, *layers), resolve=True))  # type: ignore[arg-type]
