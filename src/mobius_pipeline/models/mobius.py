"""The Mobius UNet (arXiv 2407.06617): a frozen base, a trained stream beside it, and a tail."""

from collections import deque
from collections.abc import Iterator

import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from torch import Tensor, nn

from mobius_pipeline.models.frozen import (
    DecoderLayer,
    decoder,
    frozen_features,
    prepare,
    time_embedding,
)
from mobius_pipeline.models.layers import Conditioning, as_trained, to_clips
from mobius_pipeline.models.layout import BaseUNet, Layout, read_layout
from mobius_pipeline.models.stream import Stream, StreamConfig
from mobius_pipeline.models.tail import Tail
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.video_unet import VideoUNet, spread


class Fuse(nn.Module):
    """A 1x1 convolution of the base's feature and the stream's state, initialised as [identity | W].

    The identity is added and not stored, and the trained weights beside it start at zero. So the base's
    feature passes exactly, even where convolutions round (TF32, bfloat16). `W` has its default
    initialisation, so that the stream gets gradients from the first step on.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + width, channels, 1)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv.weight.data[:, :channels])

    def forward(self, s: Tensor, h: Tensor) -> Tensor:
        """Fuse (N, c, H, W) and (N, t, H, W) to (N, c, H, W)."""
        return s + self.conv(torch.cat([s, h], dim=1))  # type: ignore[no-any-return]


class MobiusUNet3DConditionModel(VideoUNet):
    """A frozen base whose decoder ends in a tail, and a stream beside it that the front does not depend on.

    Called like diffusers' `UNet3DConditionModel`. Every trained branch starts at zero, so at step 0 the model
    equals its base exactly: a T2I model applied to each frame, or a complete T2V model.

    Shapes: `B` clips, `F` frames, `C` latent channels, `H W` latent size, `L` text tokens, `D` text width.
    """

    def __init__(self, base: BaseUNet, variant: Variant) -> None:
        """Build a new stream and tail over `base`, which is frozen and put in eval mode.

        Args:
            base: The T2I or T2V UNet.
            variant: A variant of mode `parallel`.

        Raises:
            MobiusError: If the base is not supported, or its decoder has fewer layers than the tail.
        """
        assert variant.mode == "parallel"
        layout, steps = read_layout(base), decoder(base)
        super().__init__(prepare(base, variant), variant)
        before = len(steps) - variant.tail
        self._tail_steps = steps[before:]
        self.stream = _stream(base, layout, variant, before) if variant.width else None
        self.fuse = Fuse(_fused_channels(layout, steps, before), self.stream.width) if self.stream else None
        self.tail = Tail(self._tail_steps, layout, checkpointing=variant.checkpoint_temporal)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        return_dict: bool = True,
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """Predict the noise (or velocity) of a clip.

        Args:
            sample: Noisy latents, (B, C, F, H, W).
            timestep: (B,), a scalar tensor, or a number.
            encoder_hidden_states: Text embeddings, (B, L, D).
            return_dict: Return a `UNet3DConditionOutput` instead of a tuple.

        Returns:
            The prediction, (B, C, F, H, W).

        Raises:
            MobiusError: If the shapes do not match each other.
        """
        frames, steps, text = spread(sample, timestep, encoder_hidden_states)
        count, front = sample.shape[2], self.frozen.conv_in.weight.dtype
        if self.variant.channels_last:
            frames = frames.contiguous(memory_format=torch.channels_last)
        seen = Conditioning(time_embedding(self.frozen, steps, count), text, count)
        skips: list[Tensor] = []
        features = frozen_features(
            self.frozen, frames.to(front), seen.to(front), tail=self.variant.tail, skips=skips
        )
        conditioning = seen.to(self.dtype)
        y = self._fused(features, conditioning)
        y = self.tail(y, skips, self._tail_steps, conditioning)
        y = self.frozen.conv_out(self.frozen.conv_act(self.frozen.conv_norm_out(y)))
        prediction = to_clips(y, count)
        return UNet3DConditionOutput(sample=prediction) if return_dict else (prediction,)

    def _fused(self, features: Iterator[Tensor], conditioning: Conditioning) -> Tensor:
        """Run front and stream side by side and return the tail's input, (N, c, H, W)."""
        h = self.stream(features, conditioning) if self.stream else None
        s = as_trained(deque(features, maxlen=1).pop(), self.dtype)
        return s if h is None or self.fuse is None else self.fuse(s, h)


def _stream(base: BaseUNet, layout: Layout, variant: Variant, up_layers: int) -> Stream:
    return Stream(
        StreamConfig(
            base=layout,
            own=layout.narrowed(variant.width),
            embedding=base.time_embedding.linear_2.out_features,
            text=base.config.cross_attention_dim,
            blocks=variant.blocks,
            up_layers=up_layers,
            checkpointing=variant.checkpoint_temporal,
        )
    )


def _fused_channels(layout: Layout, steps: list[DecoderLayer], before: int) -> int:
    """Return the channels of the tail's input: those of the decoder layer before it, or of the mid block."""
    return layout.channels[steps[before - 1].level if before else -1]
