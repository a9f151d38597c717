"""What the plan reads of a base: two configuration files of a folder in diffusers' layout, and no weights."""

import json
from pathlib import Path
from typing import Any

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import read_json

USUAL_SCALE = 8  # px a latent cell, of every Stable Diffusion


def read_config(base: Path, part: str) -> dict[str, Any]:
    """Read `<base>/<part>/config.json`.

    Raises:
        MobiusError: If the file is missing or no JSON object.
    """
    return _read(
        base / part / "config.json",
        "The base must be a text-to-image model in diffusers' layout; run `kedro run --pipelines=base`, or "
        "name such a folder in the parameters of the base.",
    )


def read_unet_config(source: Path) -> dict[str, Any]:
    """Read a UNet's configuration: `source` is the file, the UNet's folder, or the model's.

    Raises:
        MobiusError: If there is none, or it is no UNet's.
    """
    candidates = (source / "unet/config.json", source / "config.json", source)
    path = next((path for path in candidates if path.is_file()), source)
    config = _read(path, "Name the config.json of a UNet, or the folder of a model in diffusers' layout.")
    missing = [key for key in _NEEDED if key not in config]
    if missing:
        raise MobiusError(
            f"{path} is no configuration of a UNet2DConditionModel or UNet3DConditionModel: "
            f"it lacks {missing}."
        )
    return config


_NEEDED = ("in_channels", "block_out_channels", "cross_attention_dim", "down_block_types", "up_block_types")


def find_latent_scale(source: Path) -> int | None:
    """Pixels a latent cell spans, of the VAE beside the UNet at `source`; None where there is none."""
    folders = (source, source.parent, source.parent.parent)
    base = next((folder for folder in folders if (folder / "vae/config.json").is_file()), None)
    return None if base is None else latent_scale(read_config(base, "vae"))


def _read(path: Path, mend: str) -> dict[str, Any]:
    try:
        config = read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MobiusError(f"Cannot read {path} ({error}). {mend}") from error
    if not isinstance(config, dict):
        raise MobiusError(f"{path} holds no JSON object. Take it from the model's publisher again.")
    return config


def latent_scale(vae_config: dict[str, Any]) -> int:
    """Pixels a latent cell spans: `AutoencoderKL` halves the size between every two of its levels."""
    return int(2 ** (len(vae_config["block_out_channels"]) - 1))
