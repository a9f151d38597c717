"""Loading of a base model's UNet."""

from pathlib import Path
from typing import Any

import torch

from mobius_pipeline.models.layout import UNETS, BaseUNet, complete_config
from mobius_pipeline.models.weights import load_exactly
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def load_base(base: Path) -> BaseUNet:
    """Load the UNet of a T2I or T2V directory in diffusers' format, in float32.

    Raises:
        MobiusError: If it is missing or of another class, or its weights do not match its configuration;
            names the keys.
    """
    folder = base / "unet"
    config = read_config(folder)
    complete = complete_config(config)
    if complete is None:
        raise MobiusError(
            f"{folder / CONFIG} names the class {config.get('_class_name')}; a base needs one of "
            f"{', '.join(UNETS)}."
        )
    changed = {key: complete[key] for key, value in config.items() if complete[key] != value}
    cls, stem = UNETS[complete["_class_name"]], Path(WEIGHTS).stem
    unet: BaseUNet = load_exactly(cls, folder, stem, torch_dtype=torch.float32, **changed)
    return unet


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model's `config.json`.

    Raises:
        MobiusError: If it is missing or not JSON.
    """
    try:
        config: dict[str, Any] = read_json(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise MobiusError(f"Cannot read {folder / CONFIG} ({error}). Name a folder that has one.") from error
    return config
