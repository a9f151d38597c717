"""The Mobius UNet (arXiv 2407.06617): a frozen spatial stream beside a trained temporal one."""

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from torch import Tensor, nn
from torch.nn import functional

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.models.frames import VideoUNet, to_clips, to_frames
from mobius_pipeline.models.layout import read_layout
from mobius_pipeline.models.spatial import prepare, spatial_features, time_embedding
from mobius_pipeline.models.temporal import Conditioning, ConditioningWidths, TemporalStream
from mobius_pipeline.models.variant import Variant


class MobiusUNet3DConditionModel(VideoUNet):
    """Two UNets side by side; nothing flows from the temporal stream into the spatial one.

    Called as diffusers' `UNet3DConditionModel`. `fuse` starts as [identity | 0], so at step 0 the model is
    the T2I model on every frame, exactly.

    Shapes: `B` clips, `F` frames, `C` latent channels, `H W` latent size, `L` text tokens, `D` text width.
    """

    def __init__(self, spatial: UNet2DConditionModel, variant: Variant | None = None) -> None:
        """Stand a fresh temporal stream beside `spatial`, which is frozen and put in eval mode.

        Args:
            spatial: The T2I UNet.
            variant: Of mode `parallel`; its width, blocks and memory levers.
        """
        variant = variant or Variant()
        assert variant.mode == "parallel"
        super().__init__(prepare(spatial, variant), variant)
        layout = read_layout(spatial)
        stream = layout.narrowed(variant.width)
        widths = ConditioningWidths(
            embedding=spatial.time_embedding.linear_2.out_features, text=spatial.config.cross_attention_dim
        )
        self.temporal = TemporalStream(
            layout,
            stream,
            widths if variant.stream_spatial else None,
            checkpointing=variant.checkpoint_temporal,
        )
        self.fuse = nn.Conv2d(layout.channels[0] + stream.channels[0], layout.channels[0], 1)
        for parameter in self.fuse.parameters():
            nn.init.zeros_(parameter)
        nn.init.eye_(self.fuse.weight.data[:, : layout.channels[0], 0, 0])

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, base: str | Path, other_base: bool = False, **levers: Any
    ) -> "MobiusUNet3DConditionModel":
        """Load a trained temporal stream over a base directory; see `pretrained.load_trained`.

        Raises:
            MobiusError: If it does not fit the base, is of another mode, or was trained over another base.
        """
        from mobius_pipeline.models.pretrained import load_trained  # which builds this class

        model = load_trained(Path(folder), Path(base), other_base=other_base, **levers)
        if not isinstance(model, cls):
            raise MobiusError(f"{folder} holds a {type(model).__name__}, not a {cls.__name__}.")
        return model

    def save_pretrained(self, folder: str | Path, *, base: str | Path) -> None:
        """Save the temporal stream alone, with a reference to the base directory that it belongs to."""
        from mobius_pipeline.models.pretrained import save_trained

        save_trained(self, Path(folder), Path(base))

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
            return_dict: Give a `UNet3DConditionOutput` instead of a tuple.

        Returns:
            The prediction, (B, C, F, H, W).

        Raises:
            MobiusError: If the shapes do not fit each other.
        """
        count = sample.shape[2]
        frames, steps, text = to_frames(sample, timestep, encoder_hidden_states)
        spatial_dtype = self.spatial.conv_in.weight.dtype
        if self.variant.channels_last:
            frames = frames.contiguous(memory_format=torch.channels_last)
        embedding = time_embedding(self.spatial, frames.to(spatial_dtype), steps)
        features = spatial_features(self.spatial, frames.to(spatial_dtype), embedding, text.to(spatial_dtype))
        s, h = self.temporal(features, count, Conditioning(embedding.to(self.dtype), text))
        y = self.fuse(torch.cat([s.to(h.dtype, memory_format=torch.contiguous_format), h], dim=1))
        y = self.spatial.conv_out(functional.silu(self.spatial.conv_norm_out(y)))
        prediction = to_clips(y, count)
        return UNet3DConditionOutput(sample=prediction) if return_dict else (prediction,)
