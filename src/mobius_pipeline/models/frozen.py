"""The frozen base of a parallel model: a stock UNet that yields its features while it runs.

The base is a T2I UNet (`UNet2DConditionModel`), which sees each frame separately, or a complete T2V UNet
(`UNet3DConditionModel`) with its temporal layers. Its *tail*, the last decoder layers, is run with gradients
by `tail.Tail`; the part before it is its *front*.

Shapes: `N` = batch x frames, `C` latent channels, `H W` latent size, `c` a level's channels, `L D` text,
`E` width of the timestep embedding.
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
    """A ResNet block and a transformer block, each followed by a temporal layer; None for a missing one."""

    resnet: nn.Module
    temporal_conv: nn.Module | None
    attention: nn.Module | None
    temporal_attention: nn.Module | None

    @property
    def modules(self) -> list[nn.Module]:
        """The layers that are not None."""
        every = (self.resnet, self.temporal_conv, self.attention, self.temporal_attention)
        return [module for module in every if module is not None]

    def convolve(self, h: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the convolutions: (N, c_in, H, W) -> the feature r, (N, c, H, W)."""
        h = self.resnet(h, conditioning.embedding)
        return h if self.temporal_conv is None else self.temporal_conv(h, num_frames=conditioning.frames)

    def attend(self, h: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the attention layers: the feature r -> the feature a, both (N, c, H, W); without any, a = r."""
        if self.attention is not None:
            h = self.attention(h, encoder_hidden_states=conditioning.text, return_dict=False)[0]
        if self.temporal_attention is not None:
            h = self.temporal_attention(h, num_frames=conditioning.frames, return_dict=False)[0]
        return h


@dataclass(frozen=True)
class DecoderLayer:
    """A layer of the up path, its level, and the upsampler before it if it is the first of its level."""

    level: int
    upsampler: nn.Module | None
    layer: FrozenLayer

    @property
    def modules(self) -> list[nn.Module]:
        """Upsampler and layers, without missing ones."""
        return [*([] if self.upsampler is None else [self.upsampler]), *self.layer.modules]


def layers(block: nn.Module) -> list[FrozenLayer]:
    """Return the layers of a down, mid or up block in order; the last one of a mid block has no attention."""
    names = ("resnets", "temp_convs", "attentions", "temp_attentions")
    return [FrozenLayer(*found) for found in zip_longest(*(getattr(block, name, ()) for name in names))]


def decoder(unet: BaseUNet) -> list[DecoderLayer]:
    """Return the layers of the up path in order."""
    found: list[DecoderLayer] = []
    upsampler = None
    for level, block in zip(reversed(range(len(unet.up_blocks))), unet.up_blocks, strict=True):
        for layer in layers(block):
            found.append(DecoderLayer(level, upsampler, layer))
            upsampler = None
        upsampler = block.upsamplers[0] if block.upsamplers else None
    return found


def prepare(unet: BaseUNet, variant: Variant) -> BaseUNet:
    """Convert the front of a base to the variant's number and memory format, and compile it if asked to.

    Tail and head carry gradients and stay in float32.

    Raises:
        MobiusError: If the decoder is shorter than the tail, or a lever cannot be used.
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
    """Return the modules before the tail: layers, samplers between them, and the timestep embedding."""
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
    """Return the decoder's layers before the tail, and those in it."""
    steps = decoder(unet)
    return steps[: len(steps) - tail], steps[len(steps) - tail :]


def _compile(front: list[nn.Module]) -> None:
    """Compile each layer separately, because features are yielded between them."""
    # All ResNet blocks share one code object, which is compiled again for every width. The default limit is
    # 8; beyond it torch runs the code uncompiled, without an error.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, len(front))
    for module in front:
        module.compile()


def _convert(module: nn.Module, dtype: SpatialDtype) -> None:
    if dtype == "int8":
        _quantize(module)
    elif dtype != "float32":
        # `ModelMixin.to` would warn about layers that it keeps in float32, although there are none.
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
    """Compute the timestep embedding of every frame: (B,) -> (N, E).

    Operations are in the order of each class's own forward pass, so that results are bit-identical.
    """
    on_frames = isinstance(unet, UNet2DConditionModel)
    steps = timestep.repeat_interleave(frames) if on_frames else timestep
    embedding: Tensor = unet.time_embedding(unet.time_proj(steps).to(unet.conv_in.weight.dtype))
    return embedding if on_frames else embedding.repeat_interleave(frames, dim=0)


# The decorator, not a block: in a generator, `with torch.no_grad()` would also apply to the consumer's code
# between two features, and the stream would not be trained.
@torch.no_grad()
def frozen_features(
    unet: BaseUNet, sample: Tensor, conditioning: Conditioning, *, tail: int, skips: list[Tensor]
) -> Iterator[Tensor]:
    """Run the front of a base and yield its features in order.

    A generator, so that features are not all alive at once: the stream requests each one when it needs it,
    and only the base's skips are kept in between.

    Args:
        unet: The base, in eval mode.
        sample: Noisy latents, (N, C, H, W).
        conditioning: Conditioning in the base's number format.
        tail: Number of decoder layers that are left to the caller.
        skips: An empty list; at the end it holds the skips of the tail's layers, to be popped from its end.

    Yields:
        The first layer's input, (N, c_0, H, W); for every layer of the down path, the mid block and the up
        path the features r and a (see `FrozenLayer`); last the tail's input, upsampled if the tail starts
        with a level, or without a tail the head's input.
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
    """Upsample to the size of the next skip, which may be odd: (N, c, H, W); without upsampler return `h`."""
    return h if upsampler is None else upsampler(h, skips[-1].shape[-2:])
