"""What of a T2I UNet's configuration the video models build on, read and checked once."""

import math
from dataclasses import dataclass, replace

from diffusers import UNet2DConditionModel

from mobius_pipeline.errors import MobiusError

# UNet3DConditionModel and the two streams know these settings at these values only.
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
_DOWN_BLOCKS = {"CrossAttnDownBlock2D", "DownBlock2D"}
_UP_BLOCKS = {"CrossAttnUpBlock2D", "UpBlock2D"}


@dataclass(frozen=True)
class Layout:
    """The levels of a UNet: `channels[i]` wide, with heads `head_widths[i]` wide, `layers` layers each."""

    channels: tuple[int, ...]
    head_widths: tuple[int, ...]
    layers: int
    norm_groups: int

    def narrowed(self, width: float) -> "Layout":
        """The same levels at a share of their channels: fewer heads of the same width, at least one."""
        channels = tuple(
            max(1, round(width * count / head)) * head
            for count, head in zip(self.channels, self.head_widths, strict=True)
        )
        return replace(self, channels=channels, norm_groups=math.gcd(self.norm_groups, *channels))


def read_layout(unet: UNet2DConditionModel) -> Layout:
    """Read the layout of a T2I UNet.

    `attention_head_dim` of `UNet2DConditionModel` is, despite its name, a number of heads
    (https://github.com/huggingface/diffusers/issues/2011).

    Raises:
        MobiusError: If the UNet has a part that the video models do not know, with its key and value.
    """
    _check(unet)
    config = unet.config
    channels = tuple(config.block_out_channels)
    heads = config.num_attention_heads or config.attention_head_dim
    heads = (heads,) * len(channels) if isinstance(heads, int) else tuple(heads)
    return Layout(
        channels=channels,
        head_widths=tuple(width // count for width, count in zip(channels, heads, strict=True)),
        layers=config.layers_per_block,
        norm_groups=config.norm_num_groups,
    )


def _check(unet: UNet2DConditionModel) -> None:
    config = unet.config
    wrong = {key: config.get(key) for key, value in _REQUIRED.items() if config.get(key, value) != value}
    if not isinstance(config.layers_per_block, int):
        wrong["layers_per_block"] = config.layers_per_block
    for key, known in (("down_block_types", _DOWN_BLOCKS), ("up_block_types", _UP_BLOCKS)):
        if set(config[key]) - known:
            wrong[key] = config[key]
    if wrong:
        raise MobiusError(
            f"The T2I UNet's config.json has settings that the video models do not know: {wrong}. "
            "Take a T2I model with a UNet2DConditionModel in the layout of Stable Diffusion 1.x or 2.x."
        )
