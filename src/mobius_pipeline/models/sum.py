"""The *sum* ablation: at every sublayer the spatial and a temporal layer read the same input and are added.

Gradients cross both, so it saves nothing against the serial model; it tells what the wiring alone does.
"""

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from torch import Tensor, nn
from torch.nn import functional

from mobius_pipeline.models.frames import VideoUNet, to_clips, to_frames
from mobius_pipeline.models.layout import Layout, read_layout
from mobius_pipeline.models.spatial import attend, layers, time_embedding
from mobius_pipeline.models.temporal import (
    projection,
    run_layer,
    temporal_conv,
    temporal_transformer,
    transformer_in,
)
from mobius_pipeline.models.variant import Variant


class SumPair(nn.Module):
    """What a layer of the T2I UNet gets added: a temporal convolution and a temporal transformer.

    Both give their residual branch alone, `layer(h) - h`, which starts at zero.
    """

    def __init__(self, in_channels: int, level: int, layout: Layout) -> None:
        super().__init__()
        channels = layout.channels[level]
        self.project = projection(in_channels, channels)
        self.conv = temporal_conv(channels, layout)
        self.transformer = temporal_transformer(channels, layout.head_widths[level], layout)
        zero(self.transformer.proj_out)

    def convolved(self, h: Tensor, frames: int) -> Tensor:
        """(N, in_channels, H, W) -> what the ResNet block's output gets, (N, channels, H, W)."""
        h = self.project(h)
        return self.conv(h, num_frames=frames) - h  # type: ignore[no-any-return]

    def attended(self, h: Tensor, frames: int) -> Tensor:
        """(N, channels, H, W) -> what the transformer block's output gets, of the same shape."""
        return self.transformer(h, num_frames=frames, return_dict=False)[0] - h  # type: ignore[no-any-return]


class SumUNet3DConditionModel(VideoUNet):
    """A T2I UNet with a temporal layer beside, not behind, every spatial sublayer.

    Called as diffusers' `UNet3DConditionModel`; at step 0 it is the T2I model on every frame.
    """

    def __init__(self, spatial: UNet2DConditionModel, variant: Variant) -> None:
        """Add fresh temporal layers to `spatial`, whose own weights are frozen."""
        assert variant.mode == "sum"
        super().__init__(spatial, variant)
        layout = read_layout(spatial)
        self.transformer_in = transformer_in(layout)
        zero(self.transformer_in.proj_out)
        levels = range(len(layout.channels))
        self.down = nn.ModuleList(self._pairs(spatial.down_blocks[level], level, layout) for level in levels)
        self.mid = self._pairs(spatial.mid_block, levels[-1], layout)
        self.up = nn.ModuleList(
            self._pairs(block, level, layout)
            for block, level in zip(spatial.up_blocks, reversed(levels), strict=True)
        )

    @staticmethod
    def _pairs(block: nn.Module, level: int, layout: Layout) -> nn.ModuleList:
        return nn.ModuleList(
            SumPair(resnet.in_channels, level, layout)
            for resnet in block.resnets  # type: ignore[union-attr]
        )

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        return_dict: bool = True,
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """Predict as `MobiusUNet3DConditionModel` does, from and to the same shapes."""
        unet, count = self.spatial, sample.shape[2]
        frames, steps, text = to_frames(sample, timestep, encoder_hidden_states)
        embedding = time_embedding(unet, frames, steps)

        def layer(h: Tensor, resnet: nn.Module, attention: nn.Module | None, pair: SumPair) -> Tensor:
            h = resnet(h, embedding) + pair.convolved(h, count)
            return attend(attention, h, text) + pair.attended(h, count)

        def passed(h: Tensor, resnet: nn.Module, attention: nn.Module | None, pair: nn.Module) -> Tensor:
            return run_layer(
                layer, h, resnet, attention, pair, checkpointing=self.variant.checkpoint_temporal
            )

        h = unet.conv_in(frames)
        h = self.transformer_in(h, num_frames=count, return_dict=False)[0]
        skips = [h]
        for block, pairs in zip(unet.down_blocks, self.down, strict=True):
            for (resnet, attention), pair in zip(layers(block), pairs, strict=True):  # type: ignore[call-overload]
                h = passed(h, resnet, attention, pair)
                skips.append(h)
            if block.downsamplers:
                h = block.downsamplers[0](h)
                skips.append(h)
        attentions = (*unet.mid_block.attentions, None)
        for resnet, attention, pair in zip(unet.mid_block.resnets, attentions, self.mid, strict=True):
            h = passed(h, resnet, attention, pair)
        for block, pairs in zip(unet.up_blocks, self.up, strict=True):
            for (resnet, attention), pair in zip(layers(block), pairs, strict=True):  # type: ignore[call-overload]
                h = passed(torch.cat([h, skips.pop()], dim=1), resnet, attention, pair)
            if block.upsamplers:
                h = block.upsamplers[0](h, skips[-1].shape[-2:])
        h = unet.conv_out(functional.silu(unet.conv_norm_out(h)))
        prediction = to_clips(h, count)
        return UNet3DConditionOutput(sample=prediction) if return_dict else (prediction,)


def zero(layer: nn.Module) -> None:
    """Let a layer start at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
