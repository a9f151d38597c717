"""Build the model of any mode from a base UNet and a variant."""

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
    """Build a model over a T2I or T2V UNet, which becomes part of it; new weights depend on `seed` alone.

    Returns:
        A module called like diffusers' `UNet3DConditionModel`: (B, C, F, H, W), (B,),
        (B, L, D) -> (B, C, F, H, W). Before training, its output is that of the base.

    Raises:
        MobiusError: If the video models do not support the base, or the variant does not fit it.
    """
    build = {"parallel": MobiusUNet3DConditionModel, "serial": build_serial, "sum": SumUNet3DConditionModel}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = build[variant.mode](base, variant)
    return model


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes and checkpoints hold, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def start_of(base: BaseUNet) -> nn.Module:
    """Return the base itself, frozen and called like a video model: the start of every mode."""
    frozen = base.requires_grad_(False).eval()
    return FramewiseUNet(frozen) if isinstance(frozen, UNet2DConditionModel) else frozen


class FramewiseUNet(nn.Module):
    """A T2I model applied to each frame separately, called like a video model."""

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
        """Predict every frame: (B, C, F, H, W), (B,), (B, L, D) -> (B, C, F, H, W) in a tuple."""
        count = sample.shape[2]
        frames, steps, text = spread(sample, timestep, encoder_hidden_states)
        prediction = self.spatial(frames, steps.repeat_interleave(count), text, return_dict=return_dict)
        return (to_clips(prediction[0], count),)
