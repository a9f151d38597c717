"""Read and check the parts of a base UNet's configuration that the video models depend on."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from diffusers import UNet2DConditionModel, UNet3DConditionModel

from mobius_pipeline.runtime.errors import MobiusError

# The video models support these settings only at these values.
_REQUIRED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_act_fn": None,
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
}
BaseUNet: TypeAlias = UNet2DConditionModel | UNet3DConditionModel
UNETS = {one.__name__: one for one in (UNet2DConditionModel, UNet3DConditionModel)}
# Settings that may be given once or per level.
_ONE_FOR_ALL = {
    "cross_attention_dim",
    "layers_per_block",
    "only_cross_attention",
    "transformer_layers_per_block",
}
_DOWN_BLOCKS = {f"{name}{kind}" for name in ("CrossAttnDownBlock", "DownBlock") for kind in ("2D", "3D")}
_UP_BLOCKS = {f"{name}{kind}" for name in ("CrossAttnUpBlock", "UpBlock") for kind in ("2D", "3D")}
_UNIT = 4  # channels; the width of a narrowed head is a multiple of it


@dataclass(frozen=True)
class Layout:
    """The levels of a UNet: `channels[i]` and heads of `head_widths[i]` channels, `layers` layers in each."""

    channels: tuple[int, ...]
    head_widths: tuple[int, ...]
    layers: int
    norm_groups: int
    downsample_padding: int

    def narrowed(self, width: float) -> "Layout":
        """Return the same levels with `width` times the channels.

        Heads become fewer at about the same width; if not even one fits, there is one narrower head. Each
        group of a GroupNorm has two channels or more: with one, a latent of one cell would be normalised to
        zero.
        """
        shares = [width * count for count in self.channels]
        heads = [max(1, round(share / head)) for share, head in zip(shares, self.head_widths, strict=True)]
        widths = [max(1, round(share / n / _UNIT)) * _UNIT for share, n in zip(shares, heads, strict=True)]
        channels = tuple(n * head for n, head in zip(heads, widths, strict=True))
        groups = math.gcd(self.norm_groups, *(count // 2 for count in channels))
        return replace(self, channels=channels, head_widths=tuple(widths), norm_groups=groups)


def complete_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Complete a UNet's `config.json` with diffusers' defaults; return None if it is not a UNet's.

    A list of equal values becomes that value, where diffusers accepts either.
    """
    is_video = any("3D" in str(name) for name in config.get("down_block_types", ()))
    name = config.get("_class_name", (UNet3DConditionModel if is_video else UNet2DConditionModel).__name__)
    if name not in UNETS or ("_class_name" not in config and "block_out_channels" not in config):
        return None
    parameters = inspect.signature(UNETS[name].__init__).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    return {key: _as_scalar(key, value) for key, value in {**defaults, **config, "_class_name": name}.items()}


def _as_scalar(key: str, value: Any) -> Any:
    is_even = isinstance(value, list | tuple) and len(set(value)) == 1
    return value[0] if is_even and key in _ONE_FOR_ALL else value


def read_layout(unet: BaseUNet) -> Layout:
    """Read the layout of a T2I or T2V UNet.

    `attention_head_dim` is the width of a head in `UNet3DConditionModel`; in `UNet2DConditionModel` it is,
    despite its name, the number of heads (https://github.com/huggingface/diffusers/issues/2011).

    Raises:
        MobiusError: If the video models do not support the UNet; names the keys and values.
    """
    _check(unet)
    config = unet.config
    channels = tuple(config.block_out_channels)
    heads = config.get("num_attention_heads") or config.attention_head_dim
    heads = (heads,) * len(channels) if isinstance(heads, int) else tuple(heads)
    if isinstance(unet, UNet3DConditionModel):
        head_widths = heads
    else:
        head_widths = tuple(width // count for width, count in zip(channels, heads, strict=True))
    return Layout(
        channels=channels,
        head_widths=head_widths,
        layers=config.layers_per_block,
        norm_groups=config.norm_num_groups,
        downsample_padding=config.downsample_padding,
    )


def _check(unet: BaseUNet) -> None:
    config = unet.config
    wrong = {key: config.get(key) for key, value in _REQUIRED.items() if config.get(key, value) != value}
    if not isinstance(config.layers_per_block, int):
        wrong["layers_per_block"] = config.layers_per_block
    for key, known in (("down_block_types", _DOWN_BLOCKS), ("up_block_types", _UP_BLOCKS)):
        if set(config[key]) - known:
            wrong[key] = config[key]
    if wrong:
        raise MobiusError(
            f"The base UNet's config.json has settings that the video models do not support: {wrong}. Use a "
            "UNet2DConditionModel in the layout of Stable Diffusion 1.x or 2.x, or a UNet3DConditionModel."
        )
