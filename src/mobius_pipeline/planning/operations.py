"""List the operations that run, each with its FLOPs and the bytes that it reads and writes."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mobius_pipeline.planning.roofline import Kind, Operation
from mobius_pipeline.training.meters import FLOP_COUNTS

_HALVES = (torch.bfloat16, torch.float16)
_FREE = ("prim::", "profiler::", "aten::empty", "aten::new_empty", "aten::_unsafe_view")  # run no kernel
_OVERWRITING = ("aten::copy_", "aten::fill_", "aten::zero_")  # do not read what they write to


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """List the operations that run, in order, and count their FLOPs as `meters.count_flops` does.

    Views and allocations are left out, because they run no kernel.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Operation] = []

    @property
    def flops(self) -> int:
        """FLOPs of all operations."""
        return sum(operation.flops for operation in self.found)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and list it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if runs_a_kernel(func):
            count = FLOP_COUNTS.get(func._overloadpacket)
            flops = 0 if count is None else int(count(*args, **kwargs, out_val=result))
            if operation := _operation(func, (args, kwargs), result, flops):
                self.found.append(operation)
        return result


def runs_a_kernel(func: Any) -> bool:
    """Whether an operation runs a kernel on the device, unlike views and allocations."""
    returned = func._schema.returns
    is_view = bool(returned) and all(one.alias_info and not one.alias_info.is_write for one in returned)
    return not is_view and not func._schema.name.startswith(_FREE)


def _operation(func: Any, given: Any, result: Any, flops: int) -> Operation | None:
    name, schema = func._schema.name, func._schema.arguments
    read = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    if not read and not written:
        return None
    if not written:  # an operation that changes its arguments and returns nothing
        changed = [value for value, about in zip(given[0], schema, strict=False) if _is_written(about)]
        written = [leaf for leaf in tree_leaves(changed) if isinstance(leaf, Tensor)]
    if name in _OVERWRITING:
        read = read[1:]
    kind: Kind = "cast" if name == "aten::_to_copy" else "movement"
    if flops:
        kind = "convolution" if "convolution" in name else "product"
    largest = max((*read, *written), key=lambda tensor: (tensor.is_floating_point(), tensor.numel()))
    return Operation(kind, largest.dtype in _HALVES, flops, sum(map(_bytes, (*read, *written))))


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; those of an expanded tensor count once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
