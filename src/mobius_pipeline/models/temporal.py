"""The trained temporal stream: a second UNet of temporal layers only, fed by the spatial stream's features.

Shapes: `N` = batch x frames, `H W` latent size, `c_i` the channels of level `i`.
"""

from collections.abc import Iterator

import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn
from torch.nn import functional

from mobius_pipeline.models.layout import Layout


class TemporalPair(nn.Module):
    """One layer: temporal convolution, then temporal transformer, each behind a bridge (the "double bridge").

    `h = TemporalConv(project(h) + r)`, then `h = TemporalTransformer(h + a)`; `project` is a 1x1 convolution
    where the width changes, and at width 1 a bridge is the identity.
    """

    def __init__(self, in_channels: int, channels: int, head_width: int, norm_groups: int) -> None:
        super().__init__()
        self.project = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.conv = TemporalConvLayer(channels, norm_num_groups=norm_groups)
        self.transformer = TransformerTemporalModel(
            channels // head_width, head_width, in_channels=channels, norm_num_groups=norm_groups
        )

    def forward(self, h: Tensor, features: Iterator[Tensor], frames: int) -> Tensor:
        """(N, in_channels, H, W) and two features of (N, channels, H, W) -> (N, channels, H, W)."""
        h = self.conv(self.project(h) + next(features), num_frames=frames)
        return self.transformer(h + next(features), num_frames=frames, return_dict=False)[0]  # type: ignore[no-any-return]


class TemporalStream(nn.Module):
    """A UNet of temporal pairs with its own skips; down by 2x2 average pooling, up by nearest neighbour."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        channels, widths = layout.channels, layout.head_widths
        self.transformer_in = TransformerTemporalModel(
            8, widths[0], in_channels=channels[0], norm_num_groups=layout.norm_groups
        )
        skips = [channels[0]]
        self.down = nn.ModuleList()
        for level, width in enumerate(channels):
            pairs = nn.ModuleList()
            for _ in range(layout.layers):
                pairs.append(TemporalPair(skips[-1], width, widths[level], layout.norm_groups))
                skips.append(width)
            self.down.append(pairs)
            if level < len(channels) - 1:
                skips.append(width)

        self.mid = TemporalPair(channels[-1], channels[-1], widths[-1], layout.norm_groups)
        self.mid_conv = TemporalConvLayer(channels[-1], norm_num_groups=layout.norm_groups)

        self.up = nn.ModuleList()
        below = channels[-1]
        for level in reversed(range(len(channels))):
            pairs = nn.ModuleList()
            for _ in range(layout.layers + 1):
                pairs.append(
                    TemporalPair(below + skips.pop(), channels[level], widths[level], layout.norm_groups)
                )
                below = channels[level]
            self.up.append(pairs)

    def forward(self, features: Iterator[Tensor], frames: int) -> tuple[Tensor, Tensor]:
        """Draw the spatial features one by one.

        Args:
            features: What `spatial_features` yields.
            frames: Frames per clip, `F`; the features' first axis is `(B F)`.

        Returns:
            The last spatial feature `s` and the stream's output `h`, each (N, c_0, H, W).
        """
        h = self.transformer_in(next(features), num_frames=frames, return_dict=False)[0]
        skips = [h]
        for level, pairs in enumerate(self.down):
            for pair in pairs:  # type: ignore[attr-defined]
                h = pair(h, features, frames)
                skips.append(h)
            if level < len(self.down) - 1:
                h = functional.avg_pool2d(h, 2, ceil_mode=True)
                skips.append(h)

        h = self.mid(h, features, frames)
        h = self.mid_conv(h + next(features), num_frames=frames)

        last = _Last(features)
        for level, pairs in enumerate(self.up):
            for pair in pairs:  # type: ignore[attr-defined]
                h = pair(torch.cat([h, skips.pop()], dim=1), last, frames)
            if level < len(self.up) - 1:
                h = functional.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
        return last.value, h


class _Last:
    """An iterator that remembers what it gave last: the final feature also goes to the head."""

    def __init__(self, items: Iterator[Tensor]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        self.value = next(self._items)
        return self.value
