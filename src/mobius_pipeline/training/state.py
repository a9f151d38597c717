"""A training's tensors, to and from a checkpoint's flat mapping of names."""

from collections.abc import Mapping

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from mobius_pipeline.models.weights import copy_exactly
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.optimizer import restored_state, state_tensors


def tensors_of(
    trained: Mapping[str, nn.Parameter], ema: EMAModel, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Weights, their EMA, and the optimiser's states, on the CPU."""
    tensors = {f"model.{name}": parameter.detach() for name, parameter in trained.items()}
    for (name, parameter), shadow in zip(trained.items(), ema.shadow_params, strict=True):
        tensors[f"ema.{name}"] = shadow
        for key, value in state_tensors(optimizer.state[parameter]).items():
            tensors[f"optimizer.{name}.{key}"] = value
    return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}


@torch.no_grad()
def load_tensors(
    tensors: Mapping[str, Tensor],
    trained: Mapping[str, nn.Parameter],
    ema: EMAModel,
    optimizer: torch.optim.Optimizer,
    complaint: str,
) -> None:
    """Undo `tensors_of`, in place.

    Raises:
        MobiusError: If tensors are missing, unexpected or misshapen: `complaint`, and their names.
    """
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    copy_exactly(parts.pop("model"), trained, complaint)
    copy_exactly(parts.pop("ema"), dict(zip(trained, ema.shadow_params, strict=True)), complaint)
    states = {name: _below(name, parts["optimizer"]) for name in trained}
    _check_states(states, trained, sum(map(len, parts.values())), complaint)
    for name, parameter in trained.items():
        optimizer.state[parameter] = restored_state(states[name], parameter)


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _check_states(
    states: Mapping[str, Mapping[str, Tensor]],
    trained: Mapping[str, nn.Parameter],
    saved: int,
    complaint: str,
) -> None:
    """Refuse optimiser states that parameters lack, that belong to none, or that have another size.

    An optimiser would fill in what is missing with zeros, and go on.
    """
    kinds = set[str]().union(*states.values())
    missing = [name for name, state in states.items() if state.keys() != kinds or not kinds]
    misshapen = [
        f"{name}.{kind}"
        for name, state in states.items()
        for kind, value in state.items()
        if "." not in kind and value.ndim and value.shape != trained[name].shape
    ]
    if missing or misshapen:
        raise MobiusError(f"{complaint}. Optimiser states missing or misshapen: {(missing + misshapen)[:5]}.")
    if saved != sum(map(len, states.values())):
        raise MobiusError(f"{complaint}. It holds tensors of no trained parameter.")
