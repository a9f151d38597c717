"""The Mobius UNet (arXiv 2407.06617): a frozen spatial stream beside a trained temporal one."""

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional

from mobius_pipeline.models.layout import read_layout
from mobius_pipeline.models.spatial import spatial_features
from mobius_pipeline.models.temporal import TemporalStream


class MobiusUNet3DConditionModel(nn.Module):
    """Two UNets side by side; nothing flows from the temporal stream into the spatial one.

    Called as diffusers' `UNet3DConditionModel`. `fuse` starts as [identity | 0], so at step 0 the model is
    the T2I model on every frame, exactly.

    Shapes: `B` clips, `F` frames, `C` latent channels, `H W` latent size, `L` text tokens, `D` text width.
    """

    def __init__(self, spatial: UNet2DConditionModel) -> None:
        """Stand a fresh temporal stream beside `spatial`, which is frozen and put in eval mode."""
        super().__init__()
        layout = read_layout(spatial)
        self.spatial = spatial.requires_grad_(False).eval()
        self.temporal = TemporalStream(layout)
        self.fuse = nn.Conv2d(2 * layout.channels[0], layout.channels[0], 1)
        for parameter in self.fuse.parameters():
            nn.init.zeros_(parameter)
        nn.init.eye_(self.fuse.weight.data[:, : layout.channels[0], 0, 0])

    def train(self, mode: bool = True) -> "MobiusUNet3DConditionModel":
        """Switch the temporal stream alone; the spatial one stays in eval mode."""
        super().train(mode)
        self.spatial.eval()
        return self

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool = True
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """Predict the noise (or velocity) of a clip.

        Args:
            sample: Noisy latents, (B, C, F, H, W).
            timestep: (B,) or a scalar tensor.
            encoder_hidden_states: Text embeddings, (B, L, D).
            return_dict: Give a `UNet3DConditionOutput` instead of a tuple.

        Returns:
            The prediction, (B, C, F, H, W).
        """
        batch, frames = sample.shape[0], sample.shape[2]
        features = spatial_features(
            self.spatial,
            rearrange(sample, "b c f h w -> (b f) c h w"),
            repeat(timestep.expand(batch), "b -> (b f)", f=frames),
            repeat(encoder_hidden_states, "b l d -> (b f) l d", f=frames),
        )
        s, h = self.temporal(features, frames)
        y = self.fuse(torch.cat([s, h], dim=1))
        y = self.spatial.conv_out(functional.silu(self.spatial.conv_norm_out(y)))
        prediction = rearrange(y, "(b f) c h w -> b c f h w", f=frames)
        return UNet3DConditionOutput(sample=prediction) if return_dict else (prediction,)
