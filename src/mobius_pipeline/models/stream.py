"""The trained stream: a narrow UNet beside the frozen base that reads the base's features.

Its state holds only what was learned: it starts at zero, features enter branches through *taps* and do not
accumulate in it, and neither projections nor resampling have a bias.

Shapes: `N` = batch x frames, `H W` latent size, `c_i` the base's channels of level `i`, `t_i` the stream's
(its width times `c_i`), `L D` text, `E` width of the timestep embedding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from mobius_pipeline.models.layers import (
    AttentionBranch,
    Conditioning,
    ResnetBranch,
    TemporalConvBranch,
    as_trained,
    run_layer,
)
from mobius_pipeline.models.layout import Layout
from mobius_pipeline.models.variant import Blocks


@dataclass(frozen=True)
class StreamConfig:
    """Configuration of a stream.

    Attributes:
        base: Layout of the base that it reads from.
        own: Layout of the stream: the same levels, narrower.
        embedding: Width of the timestep embedding, `E`.
        text: Width of the text embeddings, `D`.
        blocks: Spatial blocks of each layer.
        up_layers: Number of layers in its up path: that of the base's decoder before the tail.
        checkpointing: Recompute layers in the backward pass instead of keeping their activations.
    """

    base: Layout
    own: Layout
    embedding: int
    text: int
    blocks: Blocks
    up_layers: int
    checkpointing: bool


def tap(features: int, channels: int, norm_groups: int) -> nn.Sequential:
    """Build a tap: 1x1 convolution and GroupNorm, (N, c, H, W) -> (N, t, H, W)."""
    return nn.Sequential(nn.Conv2d(features, channels, 1), nn.GroupNorm(norm_groups, channels))


def projection(in_channels: int, channels: int) -> nn.Module:
    """Build a 1x1 convolution if the width changes; it has no bias, so that zero stays zero."""
    return nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1, bias=False)


class StreamLayer(nn.Module):
    """One layer: a spatial block, convolution over frames, attention over frames; it reads two features.

        h = project(h)
        h = h + Space(h + tap_1(r))
        h = h + TemporalConv(h + tap_1(r))
        h = h + TemporalAttention(h + tap_2(a))

    Every branch normalises its input, and its last layer starts at zero. With checkpointing, only `h`, `r`
    and `a` are kept for the backward pass.
    """

    def __init__(self, in_channels: int, level: int, config: StreamConfig) -> None:
        super().__init__()
        own, features = config.own, config.base.channels[level]
        channels, head_width, groups = own.channels[level], own.head_widths[level], own.norm_groups
        self.checkpointing = config.checkpointing
        self.project = projection(in_channels, channels)
        self.first_tap = tap(features, channels, groups)
        self.space = ResnetBranch(channels, config.embedding, groups)
        self.attention = (
            AttentionBranch(channels, head_width, groups, text=config.text)
            if config.blocks == "attention"
            else None
        )
        self.conv = TemporalConvBranch(channels, groups)
        self.second_tap = tap(features, channels, groups)
        self.transformer = AttentionBranch(channels, head_width, groups)

    def forward(self, h: Tensor, features: Iterator[Tensor], conditioning: Conditioning) -> Tensor:
        """Run the layer: (N, in_channels, H, W) and the iterator over features -> (N, t_i, H, W)."""
        h = self._run(self._convolve, h, as_trained(next(features), h.dtype), conditioning)
        return self._run(self._attend, h, as_trained(next(features), h.dtype), conditioning)

    def _convolve(self, h: Tensor, feature: Tensor, conditioning: Conditioning) -> Tensor:
        h, tapped = self.project(h), self.first_tap(feature)
        h = h + self.space(h + tapped, conditioning)
        if self.attention is not None:
            h = h + self.attention(h + tapped, conditioning)
        return h + self.conv(h + tapped, conditioning)  # type: ignore[no-any-return]

    def _attend(self, h: Tensor, feature: Tensor, conditioning: Conditioning) -> Tensor:
        return h + self.transformer(h + self.second_tap(feature), conditioning)  # type: ignore[no-any-return]

    def _run(self, part: Callable[..., Tensor], *inputs: object) -> Tensor:
        return run_layer(part, *inputs, checkpointing=self.checkpointing)


class Stream(nn.Module):
    """A UNet of stream layers with its own skips, up to the tail."""

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        base, own = config.base, config.own
        channels, groups, last = own.channels, own.norm_groups, len(own.channels) - 1
        self.checkpointing = config.checkpointing
        self.first_tap = tap(base.channels[0], channels[0], groups)
        self.transformer_in = AttentionBranch(channels[0], own.head_widths[0], groups)

        skips, width = [channels[0]], channels[0]
        self.down, self.downsamplers = nn.ModuleList(), nn.ModuleList()
        for level in range(last + 1):
            self.down.append(nn.ModuleList())
            for _ in range(own.layers):
                self.down[level].append(StreamLayer(width, level, config))  # type: ignore[operator]
                width = channels[level]
                skips.append(width)
            if level < last:
                self.downsamplers.append(
                    Downsample2D(width, use_conv=True, padding=base.downsample_padding, bias=False)
                )
                skips.append(width)

        self.mid = nn.ModuleList(StreamLayer(width, last, config) for _ in range(2))

        levels = [level for level in reversed(range(last + 1)) for _ in range(own.layers + 1)]
        self.up, self.upsamplers = nn.ModuleList(), nn.ModuleDict()
        for number, level in enumerate(levels[: config.up_layers + 1]):
            if number and level != levels[number - 1]:
                self.upsamplers[str(number)] = Upsample2D(width, use_conv=True, bias=False)
            if number < config.up_layers:
                self.up.append(StreamLayer(width + skips.pop(), level, config))
                width = channels[level]
        self.width = width  # channels of the output

    def forward(self, features: Iterator[Tensor], conditioning: Conditioning) -> Tensor:
        """Run the stream; it takes all features from the iterator but the last, which is the tail's input.

        Args:
            features: The iterator of `frozen_features`.
            conditioning: Timestep embedding and text, in the stream's number format.

        Returns:
            The stream's state at the tail's input, (N, t_i, H, W).
        """
        h = self._begin(as_trained(next(features), conditioning.text.dtype), conditioning)
        skips = [h]
        for level, layers in enumerate(self.down):
            for layer in layers:  # type: ignore[attr-defined]
                h = layer(h, features, conditioning)
                skips.append(h)
            if level < len(self.downsamplers):
                h = self.downsamplers[level](h)
                skips.append(h)
        for layer in self.mid:
            h = layer(h, features, conditioning)
        for number in range(len(self.up) + 1):
            if str(number) in self.upsamplers:
                h = self.upsamplers[str(number)](h, skips[-1].shape[-2:])
            if number < len(self.up):
                h = self.up[number](torch.cat([h, skips.pop()], dim=1), features, conditioning)
        return h

    def _begin(self, feature: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the first state, (N, t_0, H, W): attention over the frames of the first feature."""

        def attend(feature: Tensor) -> Tensor:
            return self.transformer_in(self.first_tap(feature), conditioning)  # type: ignore[no-any-return]

        return run_layer(attend, feature, checkpointing=self.checkpointing)
