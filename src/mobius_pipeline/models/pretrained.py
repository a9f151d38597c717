"""Models on disk: build from a base directory, save the trained weights, load them over the base again."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mobius_pipeline.models.base_unet import CONFIG, WEIGHTS, load_base, read_config
from mobius_pipeline.models.factory import build_model, trainable_parameters
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.weights import copy_exactly
from mobius_pipeline.runtime.config import first_reason
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import folder_digest, write_json

log = logging.getLogger(__name__)

_AGAIN = "Train again with the same settings (`kedro run --pipelines=train_<mode>`), which writes it again."


def build_from_base(variant: Variant, base: Path, *, seed: int) -> nn.Module:
    """Build a model over a base directory.

    Raises:
        MobiusError: If the base cannot be read, or the variant does not fit it.
    """
    return build_model(variant, load_base(base), seed=seed)


def save_trained(
    model: nn.Module, folder: Path, base: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Save only the trained weights, with a reference to the base that they belong to.

    Args:
        model: From `build_from_base`.
        folder: Folder for `config.json` and the weights as safetensors.
        base: The base directory that the model was built from.
        weights: Weights to save instead of the model's, under the same names, such as their EMA.
    """
    own = trainable_parameters(model)
    chosen = {name: (weights or own)[name].detach().contiguous().cpu() for name in own}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(chosen, folder / WEIGHTS)
    reference = {"name": base.resolve().name, "fingerprint": folder_digest(base / "unet")}
    write_json(
        folder / CONFIG,
        {"_class_name": type(model).__name__, "variant": asdict(variant_of(model)), "base": reference},
    )


def load_trained(folder: Path, base: Path, *, other_base: bool = False, **levers: Any) -> nn.Module:
    """Load a model that `save_trained` wrote, over its base.

    Args:
        folder: The folder that `save_trained` wrote.
        base: The base directory.
        other_base: Allow another base of the same shape than the one that it was trained on.
        levers: Memory options of `Variant` that replace the saved ones.

    Raises:
        MobiusError: If files are missing or damaged, the base is a different one, or a weight does not fit.
    """
    config = read_config(folder)
    if not all(isinstance(config.get(key), dict) for key in ("variant", "base")):
        raise MobiusError(f"{folder / CONFIG} is not a configuration of a trained model. {_AGAIN}")
    saved = _saved_variant(folder, config["variant"])
    if unknown := sorted(levers.keys() - Variant.__annotations__.keys()):
        raise MobiusError(f"Unknown options {unknown}; a model has {sorted(Variant.__annotations__)}.")
    _check_base(folder, config["base"], base, other_base)
    try:
        variant = Variant(**{**saved, **levers})
    except ValidationError as error:  # also if another version saved it
        raise MobiusError(f"The model in {folder} cannot be loaded: {first_reason(error)}.") from error
    model = build_from_base(variant, base, seed=0)
    try:
        weights = load_file(folder / WEIGHTS)
    except Exception as error:
        raise MobiusError(f"Cannot read {folder / WEIGHTS} ({error}). {_AGAIN}") from error
    copy_exactly(weights, trainable_parameters(model), f"{folder / WEIGHTS} does not fit the base {base}")
    return model.eval()


def _saved_variant(folder: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a model was saved with, converted if the first release saved a serial model.

    Raises:
        MobiusError: If it is a parallel or sum model of the first release.
    """
    if "stream_spatial" not in saved:
        return dict(saved)
    if saved["mode"] != "serial":
        raise MobiusError(
            f"{folder} holds a {saved['mode']} model in the wiring of mobius-pipeline 0.1, which this "
            "version does not support. Load it with 0.1.0 (commit fa21aa7), or train it again."
        )
    return {name: value for name, value in saved.items() if name not in ("stream_spatial", "width")}


def variant_of(model: nn.Module) -> Variant:
    """Return the variant that a model was built from."""
    variant = model.variant
    assert isinstance(variant, Variant)
    return variant


def _check_base(folder: Path, trained_over: Mapping[str, str], base: Path, other_base: bool) -> None:
    if trained_over["fingerprint"] == folder_digest(base / "unet"):
        return
    message = f"{folder} was trained over another base ({trained_over['name']}) than {base}"
    if not other_base:
        raise MobiusError(f"{message}. Use that base, or allow another with other_base=True.")
    log.warning("%s. Loaded anyway, because other_base=True.", message)
