"""The trained temporal stream: a second UNet of temporal layers only, fed by the spatial stream's features.

Shapes: `N` = batch x frames, `H W` latent size, `c_i` the spatial stream's channels of level `i`, `t_i` the
temporal stream's (its width times `c_i`), `L D` text, `E` the timestep's embedding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mobius_pipeline.models.layout import Layout

T = TypeVar("T")


@dataclass(frozen=True)
class Conditioning:
    """What the stream's own spatial blocks are told: the timestep's embedding (N, E) and text (N, L, D)."""

    embedding: Tensor
    text: Tensor


@dataclass(frozen=True)
class ConditioningWidths:
    """`E` and `D` of the T2I model."""

    embedding: int
    text: int


def received(features: Iterator[Tensor], dtype: torch.dtype) -> Tensor:
    """The next spatial feature as the stream computes: in its number format, and channels first.

    The backward pass of a 5-D GroupNorm over an image in channels-last order crashes (torch 2.13, CPU).
    """
    return next(features).to(dtype, memory_format=torch.contiguous_format)


def bridge(features: int, channels: int, norm_groups: int) -> nn.Module:
    """What a spatial feature passes on its way to the temporal stream; at equal width, nothing."""
    if features == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(features, channels, 1), nn.GroupNorm(norm_groups, channels))


def temporal_conv(channels: int, layout: Layout) -> TemporalConvLayer:
    """Diffusers' temporal convolution at `channels`; its last convolution starts at zero."""
    return TemporalConvLayer(channels, norm_num_groups=layout.norm_groups)


def temporal_transformer(channels: int, head_width: int, layout: Layout) -> TransformerTemporalModel:
    """Diffusers' attention over frames at `channels`."""
    return TransformerTemporalModel(
        channels // head_width, head_width, in_channels=channels, norm_num_groups=layout.norm_groups
    )


def transformer_in(layout: Layout) -> TransformerTemporalModel:
    """The transformer behind `conv_in`, with the 8 heads that `UNet3DConditionModel` gives it."""
    return TransformerTemporalModel(
        8, layout.head_widths[0], in_channels=layout.channels[0], norm_num_groups=layout.norm_groups
    )


def projection(in_channels: int, channels: int) -> nn.Module:
    """A 1x1 convolution where the width changes."""
    return nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)


class SpatialPair(nn.Module):
    """A ResNet block and a transformer block with text cross-attention, as in the T2I UNet, but trained."""

    def __init__(
        self, channels: int, head_width: int, norm_groups: int, conditioning: ConditioningWidths
    ) -> None:
        super().__init__()
        self.resnet = ResnetBlock2D(
            in_channels=channels, temb_channels=conditioning.embedding, groups=norm_groups, eps=1e-5
        )
        self.transformer = Transformer2DModel(
            channels // head_width,
            head_width,
            in_channels=channels,
            norm_num_groups=norm_groups,
            cross_attention_dim=conditioning.text,
            use_linear_projection=True,
        )

    def forward(self, h: Tensor, conditioning: Conditioning) -> Tensor:
        """(N, channels, H, W) -> (N, channels, H, W)."""
        h = self.resnet(h, conditioning.embedding)
        return self.transformer(h, encoder_hidden_states=conditioning.text, return_dict=False)[0]  # type: ignore[no-any-return]


class TemporalPair(nn.Module):
    """One layer: temporal convolution, then temporal transformer, each behind a bridge (the "double bridge").

    `h = TemporalConv(project(h) + bridge(r))`, then `h = TemporalTransformer(h + bridge(a))`; `project` is a
    1x1 convolution where the width changes. With `conditioning`, a `SpatialPair` stands before them.

    With `checkpointing`, the inputs of `enter`, of the convolution and of the transformer are all that a pass
    keeps; the bridges stand outside, because a spatial feature cannot be computed again.
    """

    def __init__(
        self,
        in_channels: int,
        level: int,
        spatial: Layout,
        own: Layout,
        conditioning: ConditioningWidths | None,
        *,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        channels, features, head_width = own.channels[level], spatial.channels[level], own.head_widths[level]
        self.checkpointing = checkpointing
        self.project = projection(in_channels, channels)
        self.redraw: SpatialPair | None = None
        if conditioning is not None:
            self.redraw = SpatialPair(channels, head_width, own.norm_groups, conditioning)
        self.first_bridge = bridge(features, channels, own.norm_groups)
        self.conv = temporal_conv(channels, own)
        self.second_bridge = bridge(features, channels, own.norm_groups)
        self.transformer = temporal_transformer(channels, head_width, own)

    def forward(
        self,
        h: Tensor,
        skip: Tensor | None,
        features: Iterator[Tensor],
        frames: int,
        conditioning: Conditioning,
    ) -> Tensor:
        """Pass the layer.

        Args:
            h: (N, in_channels, H, W), less the skip's channels where there is a `skip`.
            skip: What the way down left for this layer, or None.
            features: Gives the layer's r and a, (N, c_i, H, W) each.
            frames: Frames per clip.
            conditioning: Timestep and text.

        Returns:
            (N, t_i, H, W).
        """
        h = self._run(self._enter, h, skip, conditioning)
        h = self._run(self.conv, h + self.first_bridge(received(features, h.dtype)), frames)
        h = h + self.second_bridge(received(features, h.dtype))
        return self._run(self._attend, h, frames)

    def _enter(self, h: Tensor, skip: Tensor | None, conditioning: Conditioning) -> Tensor:
        h = self.project(h if skip is None else torch.cat([h, skip], dim=1))
        return h if self.redraw is None else self.redraw(h, conditioning)

    def _attend(self, h: Tensor, frames: int) -> Tensor:
        return self.transformer(h, num_frames=frames, return_dict=False)[0]  # type: ignore[no-any-return]

    def _run(self, part: Callable[..., Tensor], *inputs: object) -> Tensor:
        return run_layer(part, *inputs, checkpointing=self.checkpointing)


def run_layer(part: Callable[..., T], *inputs: object, checkpointing: bool, **options: Any) -> T:
    """Call `part`; with `checkpointing`, keep only its inputs and compute it again on the way back."""
    if not checkpointing or not torch.is_grad_enabled():
        return part(*inputs, **options)
    # No layer draws random numbers: dropout is off in every mode.
    result: T = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **options)
    return result


class TemporalStream(nn.Module):
    """A UNet of temporal pairs with its own skips; down by 2x2 average pooling, up by nearest neighbour."""

    def __init__(
        self, spatial: Layout, own: Layout, conditioning: ConditioningWidths | None, *, checkpointing: bool
    ) -> None:
        """Build the stream.

        Args:
            spatial: The layout of the stream that it reads from.
            own: Its own layout: the same levels, as wide or narrower.
            conditioning: Widths of what its spatial blocks are told; None: it has temporal layers alone.
            checkpointing: Compute layers again on the way back instead of keeping their activations.
        """
        super().__init__()
        channels = own.channels

        def pair(in_channels: int, level: int) -> TemporalPair:
            return TemporalPair(in_channels, level, spatial, own, conditioning, checkpointing=checkpointing)

        self.checkpointing = checkpointing
        self.first_bridge = bridge(spatial.channels[0], channels[0], own.norm_groups)
        self.transformer_in = transformer_in(own)
        skips = [channels[0]]
        self.down = nn.ModuleList()
        for level, width in enumerate(channels):
            pairs = nn.ModuleList()
            for _ in range(own.layers):
                pairs.append(pair(skips[-1], level))
                skips.append(width)
            self.down.append(pairs)
            if level < len(channels) - 1:
                skips.append(width)

        self.mid = pair(channels[-1], len(channels) - 1)
        self.mid_bridge = bridge(spatial.channels[-1], channels[-1], own.norm_groups)
        self.mid_conv = temporal_conv(channels[-1], own)

        self.up = nn.ModuleList()
        below = channels[-1]
        for level in reversed(range(len(channels))):
            pairs = nn.ModuleList()
            for _ in range(own.layers + 1):
                pairs.append(pair(below + skips.pop(), level))
                below = channels[level]
            self.up.append(pairs)

    def forward(
        self, features: Iterator[Tensor], frames: int, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        """Draw the spatial features one by one.

        Args:
            features: What `spatial_features` yields.
            frames: Frames per clip, `F`; the features' first axis is `(B F)`.
            conditioning: Timestep and text, for the stream's spatial blocks.

        Returns:
            The last spatial feature `s` and the stream's output `h`, (N, c_0, H, W) and (N, t_0, H, W).
        """
        h = self._begin(received(features, self.transformer_in.norm.weight.dtype), frames)
        skips = [h]
        for level, pairs in enumerate(self.down):
            for pair in pairs:  # type: ignore[attr-defined]
                h = pair(h, None, features, frames, conditioning)
                skips.append(h)
            if level < len(self.down) - 1:
                h = functional.avg_pool2d(h, 2, ceil_mode=True)
                skips.append(h)

        h = self.mid(h, None, features, frames, conditioning)
        h = h + self.mid_bridge(received(features, h.dtype))
        h = run_layer(self.mid_conv, h, frames, checkpointing=self.checkpointing)

        last = _Last(features)
        for level, pairs in enumerate(self.up):
            for pair in pairs:  # type: ignore[attr-defined]
                h = pair(h, skips.pop(), last, frames, conditioning)
            if level < len(self.up) - 1:
                h = functional.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
        return last.value, h

    def _begin(self, feature: Tensor, frames: int) -> Tensor:
        h = self.first_bridge(feature)

        def attend(h: Tensor) -> Tensor:
            return self.transformer_in(h, num_frames=frames, return_dict=False)[0]  # type: ignore[no-any-return]

        return run_layer(attend, h, checkpointing=self.checkpointing)


class _Last:
    """An iterator that remembers what it gave last: the final feature also goes to the head."""

    def __init__(self, items: Iterator[Tensor]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        self.value = next(self._items)
        return self.value
