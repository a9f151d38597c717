"""Loading of weights that must fit a model exactly, by name and by shape."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import unusable


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a safetensors file that this project wrote.

    Raises:
        MobiusError: If it is missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except FileNotFoundError as error:
        raise MobiusError(f"There is no {path}. {remedy}") from error
    except (OSError, SafetensorError) as error:
        raise unusable(path, str(error), remedy) from error


@torch.no_grad()
def copy_exactly(weights: Mapping[str, Tensor], parameters: Mapping[str, Tensor], complaint: str) -> None:
    """Copy `weights` into the `parameters` of the same names.

    Raises:
        MobiusError: If names or shapes differ, with `complaint` and the keys.
    """
    shared = weights.keys() & parameters.keys()
    wrong = {
        "missing": sorted(parameters.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - parameters.keys()),
        "misshapen": sorted(name for name in shared if weights[name].shape != parameters[name].shape),
    }
    if any(wrong.values()):
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names)
        raise MobiusError(f"{complaint}. {listed}.")
    for name, weight in weights.items():
        parameters[name].copy_(weight)


def load_exactly(cls: type[Any], folder: Path, stem: str, **options: Any) -> Any:
    """Load a part of a model, whose weights must match its configuration exactly.

    Libraries silently fill in random numbers for missing weights.

    Args:
        cls: A class of diffusers or transformers with `from_pretrained`.
        folder: Folder with configuration and weights, as safetensors.
        stem: Prefix of the weight files: `diffusion_pytorch_model` or `model`.
        options: Further arguments of `from_pretrained`.

    Raises:
        MobiusError: If it cannot be read, or a weight is missing, unexpected or misshapen, with the keys.
    """
    variant = _variant(folder, stem)
    try:
        model, info = cls.from_pretrained(
            folder, variant=variant, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:  # libraries raise any error of their readers
        raise MobiusError(f"Cannot load {folder} as {cls.__name__}: {error}") from error
    wrong = {name.removesuffix("_keys"): _names(keys) for name, keys in info.items()}
    if any(wrong.values()):
        listed = "; ".join(f"{kind}: {_few(names)}" for kind, names in wrong.items() if names)
        raise MobiusError(
            f"The weights in {folder} do not match its config.json as {cls.__name__}. {listed}."
            + _remedy([name for names in wrong.values() for name in names])
        )
    return model


def _variant(folder: Path, stem: str) -> str | None:
    """Return the variant of the weight files (`fp16`), or None if there are files without a variant.

    Raises:
        MobiusError: If there are no safetensors weights, or several variants to choose from.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names & {f"{stem}.safetensors", f"{stem}.safetensors.index.json"}:
        return None
    found = (re.fullmatch(rf"{stem}\.(\w+)(-\d+-of-\d+)?\.safetensors", name) for name in sorted(names))
    variants = sorted({match[1] for match in found if match})
    if len(variants) > 1:
        raise MobiusError(
            f"{folder} holds the variants {', '.join(variants)} and no {stem}.safetensors: keep the files of "
            "one of them."
        )
    if not variants:
        pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".ckpt", ".pth")))
        raise MobiusError(
            f"{folder} holds no weights as safetensors ({stem}.safetensors)."
            + (
                f" {pickles[0]} is a pickle, which can run code and is not opened: load the model once where "
                "you trust it, and write it with `save_pretrained(folder, safe_serialization=True)`."
                if pickles
                else " Take the folder from the model's publisher again."
            )
        )
    return variants[0]


def _names(keys: Iterable[Any]) -> list[str]:
    """Return the keys of a loading report but `position_ids`, a constant that newer models compute."""
    names = (str(key[0] if isinstance(key, tuple) else key) for key in keys)
    return sorted(name for name in names if not name.endswith("position_ids"))


def _few(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _remedy(names: Iterable[str]) -> str:
    """Return what to do about keys that show how a file was made."""
    if any("_orig_mod." in name for name in names):
        return " They were saved from a compiled model: save that again without the prefix _orig_mod."
    if any("lora" in name for name in names):
        return " It holds LoRA layers: fuse them (`fuse_lora()`, `unload_lora_weights()`) and save again."
    return ""
