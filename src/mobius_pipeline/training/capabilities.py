"""Checks of memory levers that exclude each other or that the device does not support."""

from typing import Literal

from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.errors import MobiusError


def refuse_two_formats(variant: Variant, autocast: Literal["bfloat16"] | None) -> None:
    """Refuse a float16 base under autocast, which would run it in bfloat16 and fails on the CPU.

    Raises:
        MobiusError: If both are set, with the remedy.
    """
    if autocast and variant.spatial_dtype == "float16":
        raise MobiusError(
            f"spatial_dtype: float16 and autocast: {autocast} are two formats for the same computation. "
            f"Set spatial_dtype: {autocast}, or autocast: null."
        )


def refuse_impossible(variant: Variant, autocast: Literal["bfloat16"] | None, device: str) -> None:
    """Refuse levers that exclude each other or that the device does not support.

    Raises:
        MobiusError: If there is one, with the reason and the remedy.
    """
    refuse_two_formats(variant, autocast)
    if variant.compile_spatial and (reason := _no_compiler(device)):
        raise MobiusError(
            f"compile_spatial: true cannot work here ({reason}). Install a compiler, or set it to false."
        )
    if device.startswith("cuda") and (autocast or variant.spatial_dtype == "bfloat16"):
        import torch

        if not torch.cuda.is_bf16_supported(including_emulation=False):
            name = torch.cuda.get_device_name(device)
            raise MobiusError(
                f"autocast: bfloat16 and spatial_dtype: bfloat16 need bfloat16, which {name} lacks. "
                "Set autocast: null, and spatial_dtype: float16 or float32."
            )


def _no_compiler(device: str) -> str | None:
    """Return why torch.compile cannot generate code for the device, or None."""
    if device.startswith("cuda"):
        from importlib.util import find_spec

        return None if find_spec("triton") else "triton is not installed"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        return str(error).splitlines()[0]
    return None
