"""Common part of video models over a frozen base: where they keep it, and clips as separate frames."""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from mobius_pipeline.models.layers import to_frames
from mobius_pipeline.models.layout import BaseUNet
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.errors import MobiusError


class VideoUNet(nn.Module):
    """A video model that keeps a frozen base UNet in eval mode as `frozen`."""

    frozen: BaseUNet

    def __init__(self, base: BaseUNet, variant: Variant) -> None:
        super().__init__()
        self.frozen = base.requires_grad_(False).eval()
        if variant.train_head:
            train_head(base)
        self.variant = variant
        self.config = base.config  # pipelines read the latents' size and channels here

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trained parts; the base stays in eval mode."""
        super().train(mode)
        self.frozen.eval()
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the trained parameters, and of the latents and text that the model takes."""
        return self._trained.dtype

    @property
    def device(self) -> torch.device:
        """Device of the trained parameters."""
        return self._trained.device

    @property
    def _trained(self) -> nn.Parameter:
        return next(parameter for parameter in self.parameters() if parameter.requires_grad)


def train_head(unet: BaseUNet) -> None:
    """Make a UNet's last normalisation and convolution trainable."""
    for part in (unet.conv_norm_out, unet.conv_out):
        part.requires_grad_(True)


class Frames(NamedTuple):
    """Separate frames, `N` = batch x frames: sample (N, C, H, W), timestep per clip (B,), text (N, L, D)."""

    sample: Tensor
    timestep: Tensor
    text: Tensor


def spread(sample: Tensor, timestep: Tensor | float, text: Tensor) -> Frames:
    """Split a batch of clips into its frames.

    Args:
        sample: (B, C, F, H, W).
        timestep: (B,), a scalar tensor, or a number.
        text: (B, L, D).

    Raises:
        MobiusError: If the shapes do not match each other; names them.
    """
    if sample.ndim != 5 or text.ndim != 3 or text.shape[0] != sample.shape[0]:
        raise MobiusError(
            f"A video model takes latents (B, C, F, H, W) and text (B, L, D), not {tuple(sample.shape)} and "
            f"{tuple(text.shape)}."
        )
    batch, frames = sample.shape[0], sample.shape[2]
    steps = timestep if isinstance(timestep, Tensor) else torch.tensor(timestep)
    return Frames(
        to_frames(sample),
        steps.to(sample.device).expand(batch),
        text.repeat_interleave(frames, dim=0),
    )
