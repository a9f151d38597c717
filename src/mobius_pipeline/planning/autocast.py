"""Apply CUDA's autocast rules to CPU tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


class CudaAutocast(TorchFunctionMode):
    """Make autocast on a CPU follow CUDA's rule for norms: they compute in float32 and return float32.

    Autocast on a CPU leaves them in bfloat16. torch's documentation of automatic mixed precision lists the
    operations that CUDA runs in float32; a UNet's forward pass calls two of them, group and layer norm.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, with float32 inputs if CUDA's autocast would cast them."""
        kwargs = kwargs or {}
        if func in (functional.group_norm, functional.layer_norm) and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, Tensor.float, (args, kwargs))
        return func(*args, **kwargs)


def use_cudas_autocast(model: nn.Module) -> None:
    """Apply the rules of CUDA's autocast to the model's norms.

    Each norm is wrapped separately. A mode around the whole step would not apply when a checkpointed layer is
    recomputed, because torch runs `backward` without the caller's modes.
    """

    def with_its_rules(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(features: Tensor) -> Tensor:
            with CudaAutocast():
                return forward(features)

        return call

    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.forward = with_its_rules(module.forward)  # type: ignore[assignment]
