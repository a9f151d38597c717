"""Pretrained text-to-video UNets (ModelScope, ZeroScope) as a base: a T2I UNet and temporal weights.

`UNet3DConditionModel` is a T2I UNet with temporal layers in between; the T2I part has SD 2.x' names.
"""

import re
from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel, UNet3DConditionModel
from torch import Tensor, nn

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.models.serial import is_temporal
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.weights import copy_exactly

_SHARED = (
    "sample_size",
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "downsample_padding",
    "mid_block_scale_factor",
    "act_fn",
    "norm_num_groups",
    "norm_eps",
    "cross_attention_dim",
)
# Where a temporal layer of UNet3DConditionModel stands in the temporal stream.
_PLACES = (
    (r"transformer_in\.", r"temporal.transformer_in."),
    (r"down_blocks\.(\d+)\.temp_convs\.(\d+)\.", r"temporal.down.\1.\2.conv."),
    (r"down_blocks\.(\d+)\.temp_attentions\.(\d+)\.", r"temporal.down.\1.\2.transformer."),
    (r"mid_block\.temp_convs\.0\.", r"temporal.mid.conv."),
    (r"mid_block\.temp_attentions\.0\.", r"temporal.mid.transformer."),
    (r"mid_block\.temp_convs\.1\.", r"temporal.mid_conv."),
    (r"up_blocks\.(\d+)\.temp_convs\.(\d+)\.", r"temporal.up.\1.\2.conv."),
    (r"up_blocks\.(\d+)\.temp_attentions\.(\d+)\.", r"temporal.up.\1.\2.transformer."),
)


def split(unet: UNet3DConditionModel) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
    """Take a video UNet apart.

    Returns:
        Its T2I UNet, and its temporal weights under its own names.

    Raises:
        MobiusError: If its spatial weights do not make a T2I UNet, with the keys.
    """
    spatial = UNet2DConditionModel.from_config(image_config(unet.config))
    weights = unet.state_dict()
    temporal = {name: weights.pop(name) for name in list(weights) if is_temporal(name)}
    copy_exactly(weights, spatial.state_dict(), "The video UNet's spatial weights make no T2I UNet")
    return spatial, temporal


def image_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the T2I UNet in a base's; one of a T2I UNet is given back as it is."""
    if not any("3D" in name for name in config["down_block_types"]):
        return dict(config)
    return {
        **{name: config[name] for name in _SHARED},
        "down_block_types": tuple(name.replace("3D", "2D") for name in config["down_block_types"]),
        "up_block_types": tuple(name.replace("3D", "2D") for name in config["up_block_types"]),
        # Of a UNet3DConditionModel the width of a head, of a UNet2DConditionModel the number of heads.
        "attention_head_dim": tuple(
            width // config["attention_head_dim"] for width in config["block_out_channels"]
        ),
        "use_linear_projection": True,
    }


def take_over(model: nn.Module, variant: Variant, temporal: Mapping[str, Tensor]) -> list[str]:
    """Copy pretrained temporal weights into a model of mode serial, or parallel at width 1.

    Args:
        model: From `build_model`.
        variant: What it was built from.
        temporal: Weights under the names of `UNet3DConditionModel`.

    Returns:
        The trained parameters that have no pretrained counterpart and keep their fresh start: in parallel
        `fuse`, the projections, and the transformers of levels without attention.

    Raises:
        MobiusError: If the variant takes no pretrained weights, or a weight does not fit, with the keys.
    """
    if variant.mode == "sum" or variant.width != 1.0 or variant.stream_spatial:
        raise MobiusError(
            "Pretrained temporal weights fit mode: serial, and mode: parallel at width: 1 without "
            f"stream_spatial, not {variant}. Take one of these, or a text-to-image base."
        )
    weights = temporal if variant.mode == "serial" else {_place(name): w for name, w in temporal.items()}
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    fresh = [] if variant.mode == "serial" else [name for name in own if _is_new(name, weights)]
    expected = {name: own[name] for name in own if name not in fresh}
    copy_exactly(weights, expected, "The video UNet's temporal weights do not fit")
    return fresh


def _place(name: str) -> str:
    for pattern, place in _PLACES:
        moved, count = re.subn(f"^{pattern}", place, name)
        if count:
            return moved
    return name


def _is_new(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a parameter of the parallel model is one that no `UNet3DConditionModel` has."""
    if name.startswith("fuse.") or ".project." in name:
        return True
    layer = name.split(".transformer.")[0]
    return ".transformer." in name and not any(key.startswith(f"{layer}.transformer.") for key in weights)
