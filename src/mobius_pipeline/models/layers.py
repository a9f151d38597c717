"""Layers shared by the modes: diffusers' temporal layers, and residual branches that start at zero.

Shapes: `N` = batch x frames, `F` frames, `c` channels, `H W` size, `L D` text, `E` timestep embedding width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Conditioning(NamedTuple):
    """Inputs of a layer besides `h`: timestep embedding (N, E), text (N, L, D), frames per clip."""

    embedding: Tensor
    text: Tensor
    frames: int

    def to(self, dtype: torch.dtype) -> "Conditioning":
        """Return the conditioning in another number format."""
        return Conditioning(self.embedding.to(dtype), self.text.to(dtype), self.frames)


def to_clips(frames: Tensor, count: int) -> Tensor:
    """Reshape frames to clips: (B F, c, H, W) with `count` frames per clip -> (B, c, F, H, W)."""
    return frames.reshape(-1, count, *frames.shape[1:]).transpose(1, 2)


def to_frames(clips: Tensor) -> Tensor:
    """Reshape clips to frames: (B, c, F, H, W) -> (B F, c, H, W)."""
    return clips.transpose(1, 2).flatten(0, 1)


def as_trained(feature: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a feature of the front for trained layers: to their number format, in channels-first order.

    The backward pass of a 5-D GroupNorm over a channels-last image crashes (torch 2.13, CPU).
    """
    return feature.to(dtype, memory_format=torch.contiguous_format)


def zero(layer: M) -> M:
    """Set all parameters of a layer to zero and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def run_layer(part: Callable[..., T], *inputs: object, checkpointing: bool, **options: Any) -> T:
    """Call `part`; with `checkpointing`, keep only its inputs and recompute it in the backward pass."""
    if not checkpointing or not torch.is_grad_enabled():
        return part(*inputs, **options)
    # No layer draws random numbers: dropout is off in every mode.
    result: T = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **options)
    return result


def temporal_conv(channels: int, norm_groups: int) -> TemporalConvLayer:
    """Build diffusers' temporal convolution, (N, c, H, W) -> the same; its branch starts at zero."""
    return TemporalConvLayer(channels, norm_num_groups=norm_groups)


def temporal_transformer(channels: int, head_width: int, norm_groups: int) -> TransformerTemporalModel:
    """Build diffusers' attention over frames, (N, c, H, W) -> the same; its branch starts at zero."""
    heads = channels // head_width
    layer = TransformerTemporalModel(heads, head_width, in_channels=channels, norm_num_groups=norm_groups)
    zero(layer.proj_out)
    return layer


class ResnetBranch(nn.Module):
    """The residual branch of a ResNet block with timestep (diffusers' `ResnetBlock2D` at equal width)."""

    def __init__(self, channels: int, embedding: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, channels)
        self.norm2 = nn.GroupNorm(norm_groups, channels)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Compute the branch, (N, c, H, W) -> (N, c, H, W)."""
        time = self.time_emb_proj(functional.silu(conditioning.embedding))
        h = self.conv1(functional.silu(self.norm1(x))) + time[:, :, None, None]
        return self.conv2(functional.silu(self.norm2(h)))  # type: ignore[no-any-return]


class TemporalConvBranch(nn.Module):
    """The residual branch of diffusers' `TemporalConvLayer`: four convolutions over frames."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.layer = temporal_conv(channels, norm_groups)

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Compute the branch, (N, c, H, W) -> (N, c, H, W)."""
        x = to_clips(x, conditioning.frames)
        for conv in (self.layer.conv1, self.layer.conv2, self.layer.conv3, self.layer.conv4):
            x = conv(x)
        return to_frames(x)


class AttentionBranch(nn.Module):
    """A transformer block between two projections, without the residual connection around it.

    Over frames, it is the residual branch of diffusers' `TransformerTemporalModel`. Over the positions of
    each frame, it is that of `Transformer2DModel`, with text cross-attention.
    """

    def __init__(self, channels: int, head_width: int, norm_groups: int, text: int | None = None) -> None:
        """Build the branch.

        Args:
            channels: Channels of input and output.
            head_width: Channels per head.
            norm_groups: Groups of the GroupNorm.
            text: Width of the text embeddings, for attention over positions; None: attention over frames.
        """
        super().__init__()
        self.text = text
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.block = BasicTransformerBlock(
            channels,
            channels // head_width,
            head_width,
            cross_attention_dim=text,
            double_self_attention=text is None,
        )
        self.proj_out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Compute the branch, (N, c, H, W) -> (N, c, H, W)."""
        return self._over_frames(x, conditioning) if self.text is None else self._over_places(x, conditioning)

    def _over_frames(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        height, width = x.shape[2:]
        x = self.norm(to_clips(x, conditioning.frames))
        tokens = self.proj_in(x.permute(0, 3, 4, 2, 1).flatten(0, 2))  # (B H W, F, c)
        tokens = self.proj_out(self.block(tokens)).unflatten(0, (-1, height, width))
        return to_frames(tokens.permute(0, 4, 3, 1, 2))

    def _over_places(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))  # (N, H W, c)
        tokens = self.proj_out(self.block(tokens, encoder_hidden_states=conditioning.text))
        return tokens.transpose(1, 2).contiguous().unflatten(2, x.shape[2:])  # type: ignore[no-any-return]
