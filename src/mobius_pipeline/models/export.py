"""Export of trained models as complete folders, for use without this project's data."""

import json
import shutil
from pathlib import Path

import diffusers
from diffusers import UNet3DConditionModel

from mobius_pipeline.models.base_unet import CONFIG, WEIGHTS, load_base
from mobius_pipeline.models.layout import BaseUNet, read_layout
from mobius_pipeline.models.pretrained import load_trained
from mobius_pipeline.models.text_to_video import TRAINED
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import atomic_folder, read_json, write_json

_PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
_PIPELINE = "TextToVideoSDPipeline"


def export(trained: Path, base: Path, target: Path) -> Path:
    """Write a training's result and its base as one folder.

    For serial this is a text-to-video directory with a complete `UNet3DConditionModel`: diffusers'
    `TextToVideoSDPipeline` loads it without this project's code, and it can be the base of another training.
    For parallel it is the base with the trained part in a subfolder, which
    `MobiusTextToVideoPipeline.from_pretrained(target)` loads.

    Args:
        trained: A training's result folder (`data/06_models/<mode>`).
        base: The base that it was trained on.
        target: The folder to write; an earlier export there is replaced when this one is complete.

    Returns:
        `target`.

    Raises:
        MobiusError: If a folder cannot be read, the base is a different one, or a `UNet3DConditionModel`
            cannot represent the model, with the reason.
    """
    _refuse_to_lose(target, trained, base)
    if missing := [part for part in ("model_index.json", *_PARTS) if not (base / part).exists()]:
        raise MobiusError(f"{base} lacks {', '.join(missing)}. Name a complete model in diffusers' layout.")
    model = load_trained(trained, base)
    if isinstance(model, UNet3DConditionModel):
        _refuse_uneven_heads(load_base(base), base)
    index = {**read_json(base / "model_index.json"), "_diffusers_version": diffusers.__version__}
    with atomic_folder(target) as partial:
        for part in _PARTS:
            shutil.copytree(base / part, partial / part)
        if isinstance(model, UNet3DConditionModel):
            model.save_pretrained(partial / "unet")
            index |= {"_class_name": _PIPELINE, "unet": ["diffusers", "UNet3DConditionModel"]}
        else:
            shutil.copytree(base / "unet", partial / "unet")
            (partial / TRAINED).mkdir()
            for name in (CONFIG, WEIGHTS):
                shutil.copy(trained / name, partial / TRAINED / name)
        write_json(partial / "model_index.json", index)
    return target


def _refuse_to_lose(target: Path, trained: Path, base: Path) -> None:
    """Refuse to replace the folders that are read, or a folder that is not an export."""
    place, sources = target.resolve(), (trained.resolve(), base.resolve())
    if any(place == source or place in source.parents for source in sources):
        raise MobiusError(f"{target} contains the model that is exported. Name another folder.")
    if target.exists() and not (target / "model_index.json").is_file():
        raise MobiusError(f"{target} exists and is not an exported model. Name another folder, or remove it.")


def _refuse_uneven_heads(unet: BaseUNet, base: Path) -> None:
    """Refuse heads of several widths: in a `UNet3DConditionModel` on disk all have the same."""
    widths = read_layout(unet).head_widths
    if len(set(widths)) > 1:
        raise MobiusError(
            f"{base} has attention heads of {json.dumps(widths)} channels in its levels, but the "
            "configuration of a UNet3DConditionModel has one width for all: diffusers would load another "
            "model. Load the training with MobiusTextToVideoPipeline.from_pretrained(base, trained) instead."
        )
