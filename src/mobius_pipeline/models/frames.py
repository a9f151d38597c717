"""What every video model does with its arguments: frames side by side, text and timestep for each."""

from typing import NamedTuple

from einops import rearrange, repeat
from torch import Tensor

from mobius_pipeline.errors import MobiusError


class Frames(NamedTuple):
    """Frames on their own, `N` = batch x frames: (N, C, H, W), (N,), (N, L, D)."""

    sample: Tensor
    timestep: Tensor
    text: Tensor


def to_frames(sample: Tensor, timestep: Tensor | float, text: Tensor) -> Frames:
    """Spread a batch of clips over its frames.

    Args:
        sample: (B, C, F, H, W).
        timestep: (B,), a scalar tensor, or a number.
        text: (B, L, D).

    Raises:
        MobiusError: If the shapes do not fit each other, with what was given.
    """
    if sample.ndim != 5 or text.ndim != 3 or text.shape[0] != sample.shape[0]:
        raise MobiusError(
            f"A video model takes latents (B, C, F, H, W) and text (B, L, D), not {tuple(sample.shape)} and "
            f"{tuple(text.shape)}."
        )
    batch, frames = sample.shape[0], sample.shape[2]
    steps = timestep if isinstance(timestep, Tensor) else sample.new_tensor(timestep)
    return Frames(
        rearrange(sample, "b c f h w -> (b f) c h w"),
        repeat(steps.to(sample.device).expand(batch), "b -> (b f)", f=frames),
        repeat(text, "b l d -> (b f) l d", f=frames),
    )


def to_clips(frames: Tensor, count: int) -> Tensor:
    """(B F, C, H, W) with `count` frames a clip -> (B, C, F, H, W)."""
    return rearrange(frames, "(b f) c h w -> b c f h w", f=count)
