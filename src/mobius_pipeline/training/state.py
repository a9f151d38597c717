"""A training's tensors, to and from a checkpoint's flat mapping of names."""

from collections.abc import Mapping

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from mobius_pipeline.training.optimizer import restored_state, state_tensors


def packed(
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
def unpack(
    tensors: Mapping[str, Tensor],
    trained: Mapping[str, nn.Parameter],
    ema: EMAModel,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Undo `packed`, in place."""
    for (name, parameter), shadow in zip(trained.items(), ema.shadow_params, strict=True):
        parameter.copy_(tensors[f"model.{name}"])
        shadow.copy_(tensors[f"ema.{name}"])
        prefix = f"optimizer.{name}."
        plain = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        optimizer.state[parameter] = restored_state(plain, parameter)
