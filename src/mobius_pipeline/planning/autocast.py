"""CUDA's autocast, on a CPU's tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


class CudaAutocast(TorchFunctionMode):
    """Gives the CPU's autocast the rules of CUDA's, under which norms work in float32 and return it.

    The CPU's leaves them in bfloat16. The list of CUDA's is in torch's documentation of automatic mixed
    precision; a UNet's forward pass calls two of it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, with float32 inputs if CUDA's autocast would give it those."""
        kwargs = kwargs or {}
        if func in (functional.group_norm, functional.layer_norm) and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, Tensor.float, (args, kwargs))
        return func(*args, **kwargs)


def use_cudas_autocast(model: nn.Module) -> None:
    """Give the model's norms the rules of CUDA's autocast.

    Each norm for itself: around the whole step they would not hold where a checkpointed layer is computed
    again, since torch calls `backward` without the modes of its caller.
    """

    def with_its_rules(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(features: Tensor) -> Tensor:
            with CudaAutocast():
                return forward(features)

        return call

    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.forward = with_its_rules(module.forward)  # type: ignore[assignment]
