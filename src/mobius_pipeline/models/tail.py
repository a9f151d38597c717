"""The tail: the last layers of the frozen decoder, each followed by trained temporal layers.

Shapes: `N` = batch x frames, `H W` latent size, `c_i` the base's channels of level `i`.
"""

import torch
from torch import Tensor, nn

from mobius_pipeline.models.frozen import DecoderLayer, upsampled
from mobius_pipeline.models.layers import (
    Conditioning,
    as_trained,
    run_layer,
    temporal_conv,
    temporal_transformer,
)
from mobius_pipeline.models.layout import Layout


class TailLayer(nn.Module):
    """The trained part of a tail layer: temporal layers of full width, like those of `UNet3DConditionModel`.

    They start at zero, so that the layer first equals the frozen one.
    """

    def __init__(self, step: DecoderLayer, layout: Layout) -> None:
        super().__init__()
        channels, groups = layout.channels[step.level], layout.norm_groups
        self.temp_conv = temporal_conv(channels, groups)
        self.temp_attention = (
            None
            if step.layer.attention is None
            else temporal_transformer(channels, layout.head_widths[step.level], groups)
        )

    def forward(self, h: Tensor, skip: Tensor, step: DecoderLayer, conditioning: Conditioning) -> Tensor:
        """Run the layer: (N, c_below, H, W) and the base's skip -> (N, c_i, H, W)."""
        h = step.layer.convolve(torch.cat([h, skip], dim=1), conditioning)
        h = self.temp_conv(h, num_frames=conditioning.frames)
        h = step.layer.attend(h, conditioning)
        if self.temp_attention is not None:
            h = self.temp_attention(h, num_frames=conditioning.frames, return_dict=False)[0]
        return h


class Tail(nn.Module):
    """The last layers of a frozen decoder, run on a state that carries gradients."""

    def __init__(self, steps: list[DecoderLayer], layout: Layout, *, checkpointing: bool) -> None:
        """Build new temporal layers for each of `steps`, the last layers of the base's `decoder`."""
        super().__init__()
        self.layers = nn.ModuleList(TailLayer(step, layout) for step in steps)
        self.checkpointing = checkpointing

    def forward(
        self, y: Tensor, skips: list[Tensor], steps: list[DecoderLayer], conditioning: Conditioning
    ) -> Tensor:
        """Decode the fused state.

        Args:
            y: The tail's input, (N, c, H, W); already upsampled if the tail starts with a level.
            skips: The base's skips, popped from the end.
            steps: The frozen layers that the tail was built for; they belong to the base.
            conditioning: Timestep embedding and text.

        Returns:
            The head's input, (N, c_0, H, W).
        """
        for number, (trained, step) in enumerate(zip(self.layers, steps, strict=True)):
            if number:
                y = upsampled(step.upsampler, y, skips)
            skip = as_trained(skips.pop(), y.dtype)
            y = run_layer(trained, y, skip, step, conditioning, checkpointing=self.checkpointing)
        return y
