"""The *sum* ablation: spatial and temporal layers read the same input at every sublayer and are added.

Gradients cross both, so it costs no less than serial; it shows the effect of the wiring alone.
"""

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from torch import Tensor, nn

from mobius_pipeline.models.frozen import FrozenLayer, decoder, layers, time_embedding, upsampled
from mobius_pipeline.models.layers import (
    AttentionBranch,
    Conditioning,
    TemporalConvBranch,
    run_layer,
    to_clips,
)
from mobius_pipeline.models.layout import BaseUNet, Layout, read_layout
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.video_unet import VideoUNet, spread
from mobius_pipeline.runtime.errors import MobiusError


class SumPair(nn.Module):
    """The two temporal branches beside a layer of the T2I UNet, which start at zero."""

    def __init__(self, in_channels: int, level: int, layout: Layout) -> None:
        super().__init__()
        channels, groups = layout.channels[level], layout.norm_groups
        self.project = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.conv = TemporalConvBranch(channels, groups)
        self.transformer = AttentionBranch(channels, layout.head_widths[level], groups)

    def forward(self, h: Tensor, layer: FrozenLayer, conditioning: Conditioning) -> Tensor:
        """Run the layer and its branches, (N, in_channels, H, W) -> (N, channels, H, W)."""
        h = layer.convolve(h, conditioning) + self.conv(self.project(h), conditioning)
        return layer.attend(h, conditioning) + self.transformer(h, conditioning)  # type: ignore[no-any-return]


class SumUNet3DConditionModel(VideoUNet):
    """A T2I UNet with a temporal layer beside, not after, every spatial sublayer.

    Called like diffusers' `UNet3DConditionModel`; at step 0 it is the T2I model applied to each frame.
    """

    def __init__(self, base: BaseUNet, variant: Variant) -> None:
        """Add new temporal layers to `base`, whose own weights are frozen.

        Raises:
            MobiusError: If the base is a T2V UNet, or the video models do not support it.
        """
        assert variant.mode == "sum"
        if not isinstance(base, UNet2DConditionModel):
            raise MobiusError("mode: sum takes a text-to-image base. Use one, or mode: serial or parallel.")
        super().__init__(base, variant)
        layout = read_layout(base)
        channels, groups = layout.channels[0], layout.norm_groups
        self.transformer_in = AttentionBranch(channels, layout.head_widths[0], groups)
        levels = range(len(layout.channels))
        self.down = nn.ModuleList(self._pairs(base.down_blocks[level], level, layout) for level in levels)
        self.mid = self._pairs(base.mid_block, levels[-1], layout)
        self.up = nn.ModuleList(
            SumPair(step.layer.resnet.in_channels, step.level, layout)  # type: ignore[arg-type]
            for step in decoder(base)
        )

    @staticmethod
    def _pairs(block: nn.Module, level: int, layout: Layout) -> nn.ModuleList:
        return nn.ModuleList(
            SumPair(layer.resnet.in_channels, level, layout)  # type: ignore[arg-type]
            for layer in layers(block)
        )

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        return_dict: bool = True,
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """Predict the noise (or velocity) of a clip, with the shapes of `MobiusUNet3DConditionModel`."""
        unet, count = self.frozen, sample.shape[2]
        frames, steps, text = spread(sample, timestep, encoder_hidden_states)
        conditioning = Conditioning(time_embedding(unet, steps, count), text, count)

        def passed(h: Tensor, layer: FrozenLayer, pair: nn.Module) -> Tensor:
            h = run_layer(pair, h, layer, conditioning, checkpointing=self.variant.checkpoint_temporal)
            return h

        h = unet.conv_in(frames)
        h = h + self.transformer_in(h, conditioning)
        skips = [h]
        for block, pairs in zip(unet.down_blocks, self.down, strict=True):
            for layer, pair in zip(layers(block), pairs, strict=True):  # type: ignore[call-overload]
                h = passed(h, layer, pair)
                skips.append(h)
            if block.downsamplers:
                h = block.downsamplers[0](h)
                skips.append(h)
        for layer, pair in zip(layers(unet.mid_block), self.mid, strict=True):
            h = passed(h, layer, pair)
        for step, pair in zip(decoder(unet), self.up, strict=True):
            h = upsampled(step.upsampler, h, skips)
            h = passed(torch.cat([h, skips.pop()], dim=1), step.layer, pair)
        h = unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
        prediction = to_clips(h, count)
        return UNet3DConditionOutput(sample=prediction) if return_dict else (prediction,)
