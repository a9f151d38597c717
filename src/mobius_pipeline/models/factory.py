"""Every mode behind one door: a base UNet and a variant in, a model to train out."""

from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mobius_pipeline.models.layers import to_clips
from mobius_pipeline.models.layout import BaseUNet
from mobius_pipeline.models.mobius import MobiusUNet3DConditionModel
from mobius_pipeline.models.serial import build_serial
from mobius_pipeline.models.sum import SumUNet3DConditionModel
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.video_unet import spread


def build_model(variant: Variant, base: BaseUNet, *, seed: int) -> nn.Module:
    """Build a model over a T2I or T2V UNet, which becomes part of it; fresh weights depend on `seed` alone.

    Returns:
        A module called as diffusers' `UNet3DConditionModel`: (B, C, F, H, W), (B,),
        (B, L, D) -> (B, C, F, H, W). At this point it equals its base.

    Raises:
        MobiusError: If the base has a part that the video models do not know, or the variant does not fit it.
    """
    build = {"parallel": MobiusUNet3DConditionModel, "serial": build_serial, "sum": SumUNet3DConditionModel}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = build[variant.mode](base, variant)
    return model


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The named parameters that training changes: what a checkpoint holds."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def start_of(base: BaseUNet) -> nn.Module:
    """The base itself, frozen and called as a video model: where every mode starts."""
    frozen = base.requires_grad_(False).eval()
    return FramewiseUNet(frozen) if isinstance(frozen, UNet2DConditionModel) else frozen


class FramewiseUNet(nn.Module):
    """A T2I model on every frame on its own, called as a video model."""

    def __init__(self, spatial: UNet2DConditionModel) -> None:
        super().__init__()
        self.spatial = spatial
        self.dtype = spatial.dtype

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        return_dict: Literal[False] = False,
    ) -> tuple[Tensor]:
        """(B, C, F, H, W), (B,), (B, L, D) -> (B, C, F, H, W) in a tuple."""
        count = sample.shape[2]
        frames, steps, text = spread(sample, timestep, encoder_hidden_states)
        prediction = self.spatial(frames, steps.repeat_interleave(count), text, return_dict=return_dict)
        return (to_clips(prediction[0], count),)
