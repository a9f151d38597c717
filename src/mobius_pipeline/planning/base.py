"""What the plan reads of a base: two configuration files of a folder in diffusers' layout, and no weights."""

import json
from pathlib import Path
from typing import Any

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import read_json


def read_config(base: Path, part: str) -> dict[str, Any]:
    """Read `<base>/<part>/config.json`.

    Raises:
        MobiusError: If the file is missing or no JSON object.
    """
    path = base / part / "config.json"
    try:
        config = read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MobiusError(
            f"Cannot read {path} ({error}). The base must be a text-to-image model in diffusers' layout; "
            "run `kedro run --pipelines=base`, or name such a folder in the parameters of the base."
        ) from error
    if not isinstance(config, dict):
        raise MobiusError(f"{path} holds no JSON object. Take it from the model's publisher again.")
    return config


def latent_scale(vae_config: dict[str, Any]) -> int:
    """Pixels a latent cell spans: `AutoencoderKL` halves the size between every two of its levels."""
    return int(2 ** (len(vae_config["block_out_channels"]) - 1))
