"""The frozen spatial stream: a stock T2I UNet whose features are handed out as they appear.

Shapes: `N` = batch x frames, `C` latent channels, `H W` latent size, `c` a level's channels, `L D` text,
`E` the timestep's embedding.
"""

from collections.abc import Iterator

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.models.variant import SpatialDtype, Variant

_HEAD = ("conv_norm_out", "conv_out")  # gradients cross the head: it stays in float32


def prepare(unet: UNet2DConditionModel, variant: Variant) -> UNet2DConditionModel:
    """Give a T2I UNet that will get no gradients the variant's number format, memory format and compiler.

    Raises:
        MobiusError: If the variant asks for 8-bit weights and torchao is missing.
    """
    _convert(unet, variant.spatial_dtype)
    if variant.channels_last:
        unet.to(memory_format=torch.channels_last)
    if variant.compile_spatial:
        _compile(unet)
    return unet


def _compile(unet: UNet2DConditionModel) -> None:
    """Compile layer by layer: the features are handed out between them."""
    blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    layers = [layer for block in blocks for layer in (*block.resnets, *getattr(block, "attentions", ()))]
    # All ResNet blocks share one code object, which is compiled anew for every other width: 8 times at most
    # unless told otherwise, and then runs uncompiled without an error.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, len(layers))
    for layer in layers:
        layer.compile()


def _convert(unet: UNet2DConditionModel, dtype: SpatialDtype) -> None:
    if dtype == "int8":
        _quantize(unet)
    elif dtype != "float32":
        for name, part in unet.named_children():
            if name not in _HEAD:
                part.to(getattr(torch, dtype))


def _quantize(unet: UNet2DConditionModel) -> None:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise MobiusError(
            "spatial_dtype: int8 needs torchao: `pip install torchao`, or take bfloat16 instead."
        ) from error
    quantize_(unet, Int8WeightOnlyConfig(), filter_fn=lambda module, _: isinstance(module, nn.Linear))


@torch.no_grad()
def time_embedding(unet: UNet2DConditionModel, sample: Tensor, timestep: Tensor) -> Tensor:
    """What the T2I UNet's layers know of the timestep: (N, C, H, W), (N,) -> (N, E)."""
    embedding: Tensor = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
    return embedding


@torch.no_grad()
def spatial_features(
    unet: UNet2DConditionModel, sample: Tensor, embedding: Tensor, text: Tensor
) -> Iterator[Tensor]:
    """Run the T2I UNet on every frame on its own and yield its features in order.

    A generator, so that a feature lives no longer than its reader needs it: the temporal stream draws each
    one when it gets there, and no more than the spatial skips are alive in between.

    Args:
        unet: The T2I UNet, in eval mode.
        sample: Noisy latents, (N, C, H, W).
        embedding: Of the timestep, from `time_embedding`, (N, E).
        text: Text embeddings, (N, L, D).

    Yields:
        `conv_in`'s output, (N, c_0, H, W); for every layer of the down path, the mid block and the up path
        the ResNet block's output r and the transformer block's output a (a = r where a level has none),
        except for the mid block's last ResNet block, which is yielded alone. The last feature is the one
        before `conv_norm_out`.
    """
    h = unet.conv_in(sample)
    yield h

    skips = [h]
    for block in unet.down_blocks:
        for resnet, attention in layers(block):
            h = resnet(h, embedding)
            yield h
            h = attend(attention, h, text)
            yield h
            skips.append(h)
        if block.downsamplers:
            h = block.downsamplers[0](h)
            skips.append(h)

    h = unet.mid_block.resnets[0](h, embedding)
    for attention, resnet in zip(unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True):
        yield h
        h = attend(attention, h, text)
        yield h
        h = resnet(h, embedding)
    yield h

    for block in unet.up_blocks:
        for resnet, attention in layers(block):
            h = resnet(torch.cat([h, skips.pop()], dim=1), embedding)
            yield h
            h = attend(attention, h, text)
            yield h
        if block.upsamplers:
            h = block.upsamplers[0](h, skips[-1].shape[-2:])  # an odd size comes back as it was


def layers(block: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """The ResNet blocks of a level with their transformer blocks, or None where it has none."""
    resnets = list(block.resnets)  # type: ignore[arg-type]
    attentions = list(getattr(block, "attentions", [None] * len(resnets)))
    return zip(resnets, attentions, strict=True)


def attend(attention: nn.Module | None, h: Tensor, text: Tensor) -> Tensor:
    """(N, c, H, W) and (N, L, D) -> (N, c, H, W); unchanged without a transformer block."""
    return h if attention is None else attention(h, encoder_hidden_states=text, return_dict=False)[0]
