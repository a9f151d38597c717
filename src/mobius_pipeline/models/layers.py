"""Layers that the modes share: temporal layers of diffusers, and residual branches that start at zero.

Shapes: `N` = batch x frames, `F` frames, `c` channels, `H W` size, `L D` text, `E` the timestep's embedding.
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
    """What layers read beside their input: the timestep's embedding (N, E), text (N, L, D), frames a clip."""

    embedding: Tensor
    text: Tensor
    frames: int

    def to(self, dtype: torch.dtype) -> "Conditioning":
        """The same in another number format."""
        return Conditioning(self.embedding.to(dtype), self.text.to(dtype), self.frames)


def to_clips(frames: Tensor, count: int) -> Tensor:
    """(B F, c, H, W) with `count` frames a clip -> (B, c, F, H, W)."""
    return frames.reshape(-1, count, *frames.shape[1:]).transpose(1, 2)


def to_frames(clips: Tensor) -> Tensor:
    """(B, c, F, H, W) -> (B F, c, H, W)."""
    return clips.transpose(1, 2).flatten(0, 1)


def as_trained(feature: Tensor, dtype: torch.dtype) -> Tensor:
    """A feature of the front as trained layers compute: in their number format, and channels first.

    The backward pass of a 5-D GroupNorm over an image in channels-last order crashes (torch 2.13, CPU).
    """
    return feature.to(dtype, memory_format=torch.contiguous_format)


def zero(layer: M) -> M:
    """Let a layer start at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def run_layer(part: Callable[..., T], *inputs: object, checkpointing: bool, **options: Any) -> T:
    """Call `part`; with `checkpointing`, keep only its inputs and compute it again on the way back."""
    if not checkpointing or not torch.is_grad_enabled():
        return part(*inputs, **options)
    # No layer draws random numbers: dropout is off in every mode.
    result: T = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **options)
    return result


def temporal_conv(channels: int, norm_groups: int) -> TemporalConvLayer:
    """Diffusers' temporal convolution, (N, c, H, W) -> the same; its residual branch starts at zero."""
    return TemporalConvLayer(channels, norm_num_groups=norm_groups)


def temporal_transformer(channels: int, head_width: int, norm_groups: int) -> TransformerTemporalModel:
    """Diffusers' attention over frames, (N, c, H, W) -> the same; its residual branch starts at zero."""
    heads = channels // head_width
    layer = TransformerTemporalModel(heads, head_width, in_channels=channels, norm_num_groups=norm_groups)
    zero(layer.proj_out)
    return layer


class ResnetBranch(nn.Module):
    """What a ResNet block with the timestep adds to its input (diffusers' `ResnetBlock2D` at equal width)."""

    def __init__(self, channels: int, embedding: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, channels)
        self.norm2 = nn.GroupNorm(norm_groups, channels)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """(N, c, H, W) -> (N, c, H, W)."""
        time = self.time_emb_proj(functional.silu(conditioning.embedding))
        h = self.conv1(functional.silu(self.norm1(x))) + time[:, :, None, None]
        return self.conv2(functional.silu(self.norm2(h)))  # type: ignore[no-any-return]


class TemporalConvBranch(nn.Module):
    """What diffusers' `TemporalConvLayer` adds to its input: four convolutions over frames."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.layer = temporal_conv(channels, norm_groups)

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """(N, c, H, W) -> (N, c, H, W)."""
        x = to_clips(x, conditioning.frames)
        for conv in (self.layer.conv1, self.layer.conv2, self.layer.conv3, self.layer.conv4):
            x = conv(x)
        return to_frames(x)


class AttentionBranch(nn.Module):
    """A transformer block between two projections, without the residual connection around it.

    Over the frames of each place it is what diffusers' `TransformerTemporalModel` adds to its input, over the
    places of each frame what `Transformer2DModel` does, text cross-attention included.
    """

    def __init__(self, channels: int, head_width: int, norm_groups: int, text: int | None = None) -> None:
        """Build the branch.

        Args:
            channels: Of its input and output.
            head_width: Channels of a head.
            norm_groups: Of its GroupNorm.
            text: Width of the text embeddings, for attention over places; None: attention over frames.
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
        """(N, c, H, W) -> (N, c, H, W)."""
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
