"""Configuration of a base's UNet and VAE, read for the plan without loading weights."""

import json
from pathlib import Path
from typing import Any

from mobius_pipeline.models.layout import complete_config
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json

USUAL_SCALE = 8  # px per latent cell in Stable Diffusion


def read_unet_config(source: Path) -> dict[str, Any]:
    """Read a UNet's configuration from its file, its folder or the model's folder.

    Raises:
        MobiusError: If it is missing or not a UNet's.
    """
    candidates = (source / "unet/config.json", source / "config.json", source)
    path = next((path for path in candidates if path.is_file()), source)
    config = _read(path, "Name the config.json of a UNet, or the folder of a model in diffusers' layout.")
    complete = complete_config(config)
    if complete is None:
        raise MobiusError(
            f"{path} is not a configuration of a UNet2DConditionModel or UNet3DConditionModel: its class is "
            f"{config.get('_class_name')}."
        )
    return complete


def find_latent_scale(source: Path) -> int | None:
    """Return the pixels per latent cell of the VAE beside the UNet at `source`; None without a VAE."""
    folders = (source, source.parent, source.parent.parent)
    base = next((folder for folder in folders if (folder / "vae/config.json").is_file()), None)
    return None if base is None else latent_scale(base)


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        config = read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MobiusError(f"Cannot read {path} ({error}). {remedy}") from error
    if not isinstance(config, dict):
        raise MobiusError(f"{path} is not a JSON object. Take it from the model's publisher again.")
    return config


def latent_scale(base: Path) -> int:
    """Return the pixels per latent cell of a base: `AutoencoderKL` halves the size from level to level.

    Raises:
        MobiusError: If the VAE's configuration is missing or not a JSON object.
    """
    path = base / "vae/config.json"
    config = _read(path, "Run `kedro run --pipelines=base`, or name a model in diffusers' layout.")
    return int(2 ** (len(config.get("block_out_channels", (64,))) - 1))
