"""Weights that must fit a model, by name and by shape."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mobius_pipeline.errors import MobiusError


@torch.no_grad()
def copy_exactly(weights: Mapping[str, Tensor], parameters: Mapping[str, Tensor], complaint: str) -> None:
    """Copy `weights` into the `parameters` of the same names.

    Raises:
        MobiusError: If names or shapes differ: `complaint`, and the keys.
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
