"""Every mode behind one door: a T2I UNet and a variant in, a model to train out."""

from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mobius_pipeline.models.frames import to_clips, to_frames
from mobius_pipeline.models.mobius import MobiusUNet3DConditionModel
from mobius_pipeline.models.serial import build_serial
from mobius_pipeline.models.sum import SumUNet3DConditionModel
from mobius_pipeline.models.variant import Variant


def build_model(variant: Variant, spatial: UNet2DConditionModel, *, seed: int) -> nn.Module:
    """Build a model over a T2I UNet, which becomes part of it; its fresh weights depend on `seed` alone.

    Returns:
        A module called as diffusers' `UNet3DConditionModel`: (B, C, F, H, W), (B,),
        (B, L, D) -> (B, C, F, H, W). At this point it equals the T2I model on every frame.

    Raises:
        MobiusError: If the T2I UNet has a part that the video models do not know.
    """
    build = {"parallel": MobiusUNet3DConditionModel, "serial": build_serial, "sum": SumUNet3DConditionModel}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = build[variant.mode](spatial, variant)
    return model


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The named parameters that training changes: what a checkpoint holds."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class FramewiseUNet(nn.Module):
    """The T2I model on every frame on its own, called as a video model: where every mode starts."""

    def __init__(self, spatial: UNet2DConditionModel) -> None:
        super().__init__()
        self.spatial = spatial.requires_grad_(False).eval()
        self.dtype = spatial.dtype

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        return_dict: Literal[False] = False,
    ) -> tuple[Tensor]:
        """(B, C, F, H, W), (B,), (B, L, D) -> (B, C, F, H, W) in a tuple."""
        prediction = self.spatial(
            *to_frames(sample, timestep, encoder_hidden_states), return_dict=return_dict
        )
        return (to_clips(prediction[0], sample.shape[2]),)
