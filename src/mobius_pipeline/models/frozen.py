"""The frozen base under a trained stream: a stock UNet whose features are handed out as they appear.

The base is a T2I UNet (`UNet2DConditionModel`), which sees every frame on its own, or a whole T2V UNet
(`UNet3DConditionModel`), temporal layers included. Its *tail*, the last decoder layers, is run by `tail.Tail`
instead, with gradients; what comes before is its *front*.

Shapes: `N` = batch x frames, `C` latent channels, `H W` latent size, `c` a level's channels, `L D` text,
`E` the timestep's embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from torch import Tensor, nn

from mobius_pipeline.models.layers import Conditioning
from mobius_pipeline.models.layout import BaseUNet
from mobius_pipeline.models.variant import SpatialDtype, Variant
from mobius_pipeline.runtime.errors import MobiusError


@dataclass(frozen=True)
class FrozenLayer:
    """A ResNet block and a transformer block, each with the temporal layer behind it; None: it has none."""

    resnet: nn.Module
    temporal_conv: nn.Module | None
    attention: nn.Module | None
    temporal_attention: nn.Module | None

    @property
    def modules(self) -> list[nn.Module]:
        """The layers that there are."""
        every = (self.resnet, self.temporal_conv, self.attention, self.temporal_attention)
        return [module for module in every if module is not None]

    def convolve(self, h: Tensor, conditioning: Conditioning) -> Tensor:
        """(N, c_in, H, W) -> the feature r, (N, c, H, W)."""
        h = self.resnet(h, conditioning.embedding)
        return h if self.temporal_conv is None else self.temporal_conv(h, num_frames=conditioning.frames)

    def attend(self, h: Tensor, conditioning: Conditioning) -> Tensor:
        """The feature r -> the feature a, both (N, c, H, W); a = r without a transformer block."""
        if self.attention is not None:
            h = self.attention(h, encoder_hidden_states=conditioning.text, return_dict=False)[0]
        if self.temporal_attention is not None:
            h = self.temporal_attention(h, num_frames=conditioning.frames, return_dict=False)[0]
        return h


@dataclass(frozen=True)
class DecoderLayer:
    """A layer of the up path, its level, and the upsampler before it where the level begins with it."""

    level: int
    upsampler: nn.Module | None
    layer: FrozenLayer

    @property
    def modules(self) -> list[nn.Module]:
        """Upsampler and layers."""
        return [*([] if self.upsampler is None else [self.upsampler]), *self.layer.modules]


def layers(block: nn.Module) -> list[FrozenLayer]:
    """The layers of a down, mid or up block in their order; the last one of a mid block has no attention."""
    names = ("resnets", "temp_convs", "attentions", "temp_attentions")
    return [FrozenLayer(*found) for found in zip_longest(*(getattr(block, name, ()) for name in names))]


def decoder(unet: BaseUNet) -> list[DecoderLayer]:
    """The layers of the up path in their order."""
    found: list[DecoderLayer] = []
    upsampler = None
    for level, block in zip(reversed(range(len(unet.up_blocks))), unet.up_blocks, strict=True):
        for layer in layers(block):
            found.append(DecoderLayer(level, upsampler, layer))
            upsampler = None
        upsampler = block.upsamplers[0] if block.upsamplers else None
    return found


def prepare(unet: BaseUNet, variant: Variant) -> BaseUNet:
    """Give the front of a base the variant's number format, memory format and compiler.

    Gradients cross tail and head, which stay as they are: in float32.

    Raises:
        MobiusError: If the decoder is shorter than the tail, or 8-bit weights are asked for without torchao.
    """
    count = len(decoder(unet))
    if variant.tail > count:
        raise MobiusError(f"tail: {variant.tail} is more than the {count} layers of the base's decoder.")
    if variant.channels_last and isinstance(unet, UNet3DConditionModel):
        raise MobiusError(
            "channels_last: true cannot work over a text-to-video base, whose temporal convolutions are 3-D. "
            "Set it to false."
        )
    front = front_modules(unet, variant.tail)
    for module in front:
        _convert(module, variant.spatial_dtype)
        if variant.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if variant.compile_spatial:
        _compile(front)
    return unet


def front_modules(unet: BaseUNet, tail: int) -> list[nn.Module]:
    """What runs before the tail: every layer, the samplers between them, and the timestep's embedding."""
    begin = (unet.time_embedding, unet.conv_in, getattr(unet, "transformer_in", None))
    found = [module for module in begin if module is not None]
    for block in unet.down_blocks:
        found += [module for layer in layers(block) for module in layer.modules]
        found += block.downsamplers or []
    found += [module for layer in layers(unet.mid_block) for module in layer.modules]
    before, after = _split(unet, tail)
    found += [module for step in before for module in step.modules]
    first = after[0].upsampler if after else None
    return found if first is None else [*found, first]


def _split(unet: BaseUNet, tail: int) -> tuple[list[DecoderLayer], list[DecoderLayer]]:
    """The decoder's layers before the tail, and those in it."""
    steps = decoder(unet)
    return steps[: len(steps) - tail], steps[len(steps) - tail :]


def _compile(front: list[nn.Module]) -> None:
    """Compile layer by layer: the features are handed out between them."""
    # All ResNet blocks share one code object, which is compiled once for every width: by default 8 times at
    # most, and beyond that it runs uncompiled without an error.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, len(front))
    for module in front:
        module.compile()


def _convert(module: nn.Module, dtype: SpatialDtype) -> None:
    if dtype == "int8":
        _quantize(module)
    elif dtype != "float32":
        # A ModelMixin's own `to` warns that it keeps some layers in float32, and has none.
        nn.Module.to(module, getattr(torch, dtype))


def _quantize(module: nn.Module) -> None:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise MobiusError(
            "spatial_dtype: int8 needs torchao: `pip install torchao`, or take bfloat16 instead."
        ) from error
    quantize_(module, Int8WeightOnlyConfig(), filter_fn=lambda module, _: isinstance(module, nn.Linear))


@torch.no_grad()
def time_embedding(unet: BaseUNet, timestep: Tensor, frames: int) -> Tensor:
    """What the base's layers read of the timestep, for every frame: (B,) -> (N, E).

    In the order of each class's own forward pass, so that the bits are the same.
    """
    on_frames = isinstance(unet, UNet2DConditionModel)
    steps = timestep.repeat_interleave(frames) if on_frames else timestep
    embedding: Tensor = unet.time_embedding(unet.time_proj(steps).to(unet.conv_in.weight.dtype))
    return embedding if on_frames else embedding.repeat_interleave(frames, dim=0)


# The decorator, not a block inside: a `with torch.no_grad()` would stay in force for the consumer between two
# features, and nothing of the stream would be trained.
@torch.no_grad()
def frozen_features(
    unet: BaseUNet, sample: Tensor, conditioning: Conditioning, *, tail: int, skips: list[Tensor]
) -> Iterator[Tensor]:
    """Run the front of a base and yield its features in order.

    A generator, so that a feature lives no longer than its reader needs it: the stream draws each one when it
    gets there, and no more than the base's skips are alive in between.

    Args:
        unet: The base, in eval mode.
        sample: Noisy latents, (N, C, H, W).
        conditioning: In the base's number format.
        tail: Layers of the decoder that are left to the caller.
        skips: An empty list; at the end it holds what the tail's layers take, the last one first taken.

    Yields:
        The first layer's input, (N, c_0, H, W); for every layer of the down path, the mid block and the up
        path the features r and a (see `FrozenLayer`); and last the tail's input, upsampled where the tail
        begins with a level, or the head's if there is no tail.
    """
    h = unet.conv_in(sample)
    if isinstance(unet, UNet3DConditionModel):
        h = unet.transformer_in(h, num_frames=conditioning.frames, return_dict=False)[0]
    yield h
    skips.append(h)
    for block in unet.down_blocks:
        for layer in layers(block):
            h = layer.convolve(h, conditioning)
            yield h
            h = layer.attend(h, conditioning)
            yield h
            skips.append(h)
        if block.downsamplers:
            h = block.downsamplers[0](h)
            skips.append(h)

    for layer in layers(unet.mid_block):
        h = layer.convolve(h, conditioning)
        yield h
        h = layer.attend(h, conditioning)
        yield h

    before, after = _split(unet, tail)
    for step in before:
        h = upsampled(step.upsampler, h, skips)
        h = step.layer.convolve(torch.cat([h, skips.pop()], dim=1), conditioning)
        yield h
        h = step.layer.attend(h, conditioning)
        yield h
    yield upsampled(after[0].upsampler, h, skips) if after else h


def upsampled(upsampler: nn.Module | None, h: Tensor, skips: list[Tensor]) -> Tensor:
    """(N, c, H, W) at the size of the next skip: an odd size comes back as it was."""
    return h if upsampler is None else upsampler(h, skips[-1].shape[-2:])
