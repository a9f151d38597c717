"""Convert a training's tensors to and from a checkpoint's flat mapping of names."""

from collections.abc import Mapping

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from mobius_pipeline.models.weights import copy_exactly
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.optimizer import misshapen, restored_state, state_tensors


def tensors_of(
    trained: Mapping[str, nn.Parameter], ema: EMAModel, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Return weights, EMA and optimiser states by name, on the CPU."""
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
        MobiusError: If tensors are missing, unexpected or misshapen, with `complaint` and their names.
    """
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    copy_exactly(parts.pop("model"), trained, complaint)
    copy_exactly(parts.pop("ema"), dict(zip(trained, ema.shadow_params, strict=True)), complaint)
    states = {name: _below(name, parts["optimizer"]) for name in trained}
    _check_states(states, trained, sum(map(len, parts.values())), complaint)
    _load_states({trained[name]: restored_state(state) for name, state in states.items()}, optimizer)


def _load_states(states: Mapping[Tensor, dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    """Load states onto the devices that the optimiser needs: a fused AdamW counts its steps on the GPU."""
    groups = optimizer.state_dict()["param_groups"]  # parameters are numbers here
    numbers = [number for group in groups for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbered = {number: states[one] for number, one in zip(numbers, parameters, strict=True)}
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _check_states(
    states: Mapping[str, Mapping[str, Tensor]],
    trained: Mapping[str, nn.Parameter],
    saved: int,
    complaint: str,
) -> None:
    """Refuse optimiser states that are missing, that belong to no parameter, or that have another shape.

    An optimiser would silently replace missing ones by zeros.
    """
    # 8-bit AdamW keeps small moments in 32 bits: one tensor instead of codes and scales.
    held = {name: {kind.partition(".")[0] for kind in state} for name, state in states.items()}
    kinds = set[str]().union(*held.values())
    missing = [name for name, own in held.items() if own != kinds or not kinds]
    wrong = [f"{name}.{kind}" for name, own in states.items() for kind in misshapen(own, trained[name].shape)]
    if missing or wrong:
        raise MobiusError(f"{complaint}. Optimiser states missing or misshapen: {(missing + wrong)[:5]}.")
    if saved != sum(map(len, states.values())):
        raise MobiusError(f"{complaint}. It holds tensors of no trained parameter.")
