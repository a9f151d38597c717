"""The frozen spatial stream: a stock T2I UNet whose features are handed out as they appear.

Shapes: `N` = batch x frames, `C` latent channels, `H W` latent size, `c` a level's channels, `L D` text.
"""

from collections.abc import Iterator

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn


@torch.no_grad()
def spatial_features(
    unet: UNet2DConditionModel, sample: Tensor, timestep: Tensor, text: Tensor
) -> Iterator[Tensor]:
    """Run the T2I UNet on every frame on its own and yield its features in order.

    A generator, so that a feature lives no longer than its reader needs it: the temporal stream draws each
    one when it gets there, and no more than the spatial skips are alive in between.

    Args:
        unet: The T2I UNet, in eval mode.
        sample: Noisy latents, (N, C, H, W).
        timestep: (N,).
        text: Text embeddings, (N, L, D).

    Yields:
        `conv_in`'s output, (N, c_0, H, W); for every layer of the down path, the mid block and the up path
        the ResNet block's output r and the transformer block's output a (a = r where a level has none),
        except for the mid block's last ResNet block, which is yielded alone. The last feature is the one
        before `conv_norm_out`.
    """
    embedding = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
    h = unet.conv_in(sample)
    yield h

    skips = [h]
    for block in unet.down_blocks:
        for resnet, attention in _layers(block):
            h = resnet(h, embedding)
            yield h
            h = _attend(attention, h, text)
            yield h
            skips.append(h)
        if block.downsamplers:
            h = block.downsamplers[0](h)
            skips.append(h)

    h = unet.mid_block.resnets[0](h, embedding)
    for attention, resnet in zip(unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True):
        yield h
        h = _attend(attention, h, text)
        yield h
        h = resnet(h, embedding)
    yield h

    for block in unet.up_blocks:
        for resnet, attention in _layers(block):
            h = resnet(torch.cat([h, skips.pop()], dim=1), embedding)
            yield h
            h = _attend(attention, h, text)
            yield h
        if block.upsamplers:
            h = block.upsamplers[0](h, skips[-1].shape[-2:])  # an odd size comes back as it was


def _layers(block: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    resnets = list(block.resnets)  # type: ignore[arg-type]
    attentions = list(getattr(block, "attentions", [None] * len(resnets)))
    return zip(resnets, attentions, strict=True)


def _attend(attention: nn.Module | None, h: Tensor, text: Tensor) -> Tensor:
    return h if attention is None else attention(h, encoder_hidden_states=text, return_dict=False)[0]
