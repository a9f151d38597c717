"""AdamW with 32-bit or 8-bit states, and its states as plain tensors for a checkpoint."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mobius_pipeline.runtime.errors import MobiusError

_LEVELS, _BLOCK = 256, 256  # values of 8 bits; values per scale in torchao's AdamW8bit
_SIGNED = {"exp_avg": True, "exp_avg_sq": False}  # the second moment is never negative


def build_optimizer(
    parameters: Iterable[nn.Parameter], *, state_bits: Literal[8, 32], **settings: Any
) -> torch.optim.Optimizer:
    """Build AdamW.

    Args:
        parameters: Parameters to update.
        state_bits: Bits of its two moments.
        settings: Arguments of `torch.optim.AdamW`: lr, betas, weight_decay.

    Raises:
        MobiusError: If `state_bits` is 8 and torchao is missing.
    """
    if state_bits == 32:
        return torch.optim.AdamW(parameters, **settings, fused=True)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise MobiusError(
            "train.optimizer.state_bits: 8 needs torchao: install the extra `quantized` of this project "
            "(`pip install -e .[quantized]`), or set 32."
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **settings)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step; torchao's optimisers keep it in a tensor, which must not be replaced."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return every tensor of the optimiser's state (AdamW: two moments and a step count per parameter)."""
    return [leaf for leaf in tree_leaves(list(optimizer.state.values())) if isinstance(leaf, Tensor)]


def state_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a parameter's optimiser state as plain tensors, an 8-bit moment as codes, scales, code book."""
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if hasattr(value, "__tensor_flatten__"):
            plain |= {f"{name}.{part}": getattr(value, part) for part in value.__tensor_flatten__()[0]}
        else:
            plain[name] = value
    return plain


def misshapen(state: Mapping[str, Tensor], shape: torch.Size) -> list[str]:
    """Return the names in a plain state that do not fit a parameter of `shape`; a scalar always fits."""
    in_8_bits = {"codes": shape, "scale": (shape.numel() // _BLOCK,), "qmap": (_LEVELS,)}
    wrong = []
    for name in sorted({key.partition(".")[0] for key in state}):
        found = {key: value.shape for key, value in state.items() if key.partition(".")[0] == name}
        fits = found in ({name: ()}, {name: shape}, {f"{name}.{part}": of for part, of in in_8_bits.items()})
        wrong += [] if fits else [name]
    return wrong


def restored_state(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `state_tensors`, on the device of the tensors."""
    state = {name: value for name, value in plain.items() if "." not in name}
    for name in sorted({name.split(".")[0] for name in plain if "." in name}):
        from torchao.optim.subclass_8bit import OptimState8bit

        parts = (plain[f"{name}.{part}"] for part in ("codes", "scale", "qmap"))
        state[name] = OptimState8bit(*parts, _SIGNED[name])
    return state
