"""Both modes behind one door: a T2I UNet and a mode in, a model to train out."""

from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from mobius_pipeline.models.mobius import MobiusUNet3DConditionModel
from mobius_pipeline.models.serial import build_serial

Mode = Literal["serial", "parallel"]


def build_model(mode: Mode, spatial: UNet2DConditionModel, *, seed: int) -> nn.Module:
    """Build the model of a mode over a T2I UNet; its fresh weights depend on `seed` alone.

    Returns:
        A module called as diffusers' `UNet3DConditionModel`: (B, C, F, H, W), (B,),
        (B, L, D) -> (B, C, F, H, W). At this point it equals the T2I model on every frame.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MobiusUNet3DConditionModel(spatial) if mode == "parallel" else build_serial(spatial)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The named parameters that training changes: what a checkpoint holds."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class FramewiseUNet(nn.Module):
    """The T2I model on every frame on its own, called as a video model: where both modes start."""

    def __init__(self, spatial: UNet2DConditionModel) -> None:
        super().__init__()
        self.spatial = spatial.requires_grad_(False).eval()

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        return_dict: Literal[False] = False,
    ) -> tuple[Tensor]:
        """(B, C, F, H, W), (B,), (B, L, D) -> (B, C, F, H, W) in a tuple."""
        batch, frames = sample.shape[0], sample.shape[2]
        prediction = self.spatial(
            rearrange(sample, "b c f h w -> (b f) c h w"),
            repeat(timestep.expand(batch), "b -> (b f)", f=frames),
            repeat(encoder_hidden_states, "b l d -> (b f) l d", f=frames),
            return_dict=False,
        )[0]
        return (rearrange(prediction, "(b f) c h w -> b c f h w", f=frames),)
