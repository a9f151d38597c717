"""The serial baseline: diffusers' unmodified `UNet3DConditionModel`, initialised from its base."""

import math
from functools import partial

from diffusers import UNet2DConditionModel, UNet3DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from mobius_pipeline.models.layers import run_layer, zero
from mobius_pipeline.models.layout import BaseUNet, read_layout
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.video_unet import train_head
from mobius_pipeline.models.weights import copy_exactly

# The attributes of UNet3DConditionModel's blocks that hold its layers.
_LAYERS = ("resnets", "temp_convs", "attentions", "temp_attentions")


def build_serial(base: BaseUNet, variant: Variant) -> UNet3DConditionModel:
    """Build the serial 3D-UNet: over a T2I UNet with new temporal layers; a T2V UNet is used as it is.

    Spatial weights are frozen, temporal weights are trained.

    Raises:
        MobiusError: If the base is not supported, or a spatial weight is missing, unexpected or misshapen.
    """
    assert variant.mode == "serial"
    if isinstance(base, UNet3DConditionModel):
        read_layout(base)  # refuses unsupported settings
        model = base
    else:
        model = _inflated(base)
    _silence_dropout(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_temporal(name))
    if variant.train_head:
        train_head(model)
    if variant.checkpoint_temporal:
        _checkpoint_layers(model)
    model.variant = variant
    return model


def _inflated(spatial: UNet2DConditionModel) -> UNet3DConditionModel:
    """Build a `UNet3DConditionModel` with the weights of a T2I UNet; at the start it predicts the same."""
    layout, config = read_layout(spatial), spatial.config
    model = UNet3DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        down_block_types=tuple(name.replace("2D", "3D") for name in config.down_block_types),
        up_block_types=tuple(name.replace("2D", "3D") for name in config.up_block_types),
        block_out_channels=layout.channels,
        layers_per_block=layout.layers,
        downsample_padding=config.downsample_padding,
        mid_block_scale_factor=config.mid_block_scale_factor,
        norm_num_groups=layout.norm_groups,
        norm_eps=config.norm_eps,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=math.gcd(*layout.head_widths),
    )
    _load_spatial(model, spatial)
    _start_as_t2i(model)
    return model


def is_temporal(name: str) -> bool:
    """Return whether a parameter of the serial UNet belongs to a temporal layer."""
    return "temp_convs." in name or "temp_attentions." in name or name.startswith("transformer_in.")


def _load_spatial(model: UNet3DConditionModel, spatial: UNet2DConditionModel) -> None:
    ours = {name: tensor for name, tensor in model.state_dict().items() if not is_temporal(name)}
    weights = {name: _as_linear(tensor, ours.get(name)) for name, tensor in spatial.state_dict().items()}
    copy_exactly(weights, ours, "The T2I UNet's weights do not fit the serial UNet")
    for name, module in spatial.named_modules():
        if isinstance(module, Attention):  # UNet3D has one head width for all levels; the weights fit any
            twin = model.get_submodule(name)
            twin.heads, twin.scale = module.heads, module.scale


def _as_linear(weight: Tensor, like: Tensor | None) -> Tensor:
    """Flatten SD 1.x's attention projections, 1x1 convolutions (out, in, 1, 1), to UNet3D's linear layers."""
    conv_for_linear = like is not None and weight.ndim == 4 and like.ndim == 2
    return weight.flatten(1) if conv_for_linear else weight


def _start_as_t2i(model: UNet3DConditionModel) -> None:
    """Zero every temporal residual branch, so that the model starts with the T2I model's output."""
    for module in model.modules():
        if isinstance(module, TransformerTemporalModel):
            zero(module.proj_out)
        elif isinstance(module, TemporalConvLayer):
            zero(module.conv4[-1])


def _silence_dropout(model: UNet3DConditionModel) -> None:
    """Turn off dropout: it draws from global state, which neither a resumed run nor the other mode shares."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _checkpoint_layers(model: UNet3DConditionModel) -> None:
    """Recompute every layer in the backward pass; `UNet3DConditionModel` has no checkpointing itself."""
    blocks = [*model.down_blocks, model.mid_block, *model.up_blocks]
    layers = [layer for block in blocks for name in _LAYERS for layer in getattr(block, name, ())]
    for layer in (model.transformer_in, *layers):
        layer.forward = partial(run_layer, layer.forward, checkpointing=True)
