"""Batches of a training step: clips of the latents store, each with its own random draws."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mobius_pipeline.latents.store import Clip, LatentsStore, of_one_size
from mobius_pipeline.training.config import ObjectiveConfig
from mobius_pipeline.training.draws import draw, draw_caption

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """Inputs of a training step: latents and noise (B, C, F, h, w), timestep (B,), text (B, L, D)."""

    latents: Tensor
    noise: Tensor
    timestep: Tensor
    text: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """Latents, noise, timestep and text."""
        return [self.latents, self.noise, self.timestep, self.text]

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """Return a copy on `device`; latents, noise and text are also converted to `dtype`."""
        latents, noise, text = (one.to(device, dtype) for one in (self.latents, self.noise, self.text))
        return Batch(latents, noise, self.timestep.to(device), text)


def by_size(clips: Sequence[Clip], batch_size: int) -> list[list[Clip]]:
    """Group clips by size; a size with fewer clips than a batch is dropped, with a warning."""
    groups = of_one_size(clips)
    for group in groups:
        if len(group) < batch_size and len(groups) > 1:
            size = group[0].size
            log.warning(
                "Skipped %d clips of %d x %d px x %d frames: fewer than a batch of %d.",
                len(group),
                size.height,
                size.width,
                size.frames,
                batch_size,
            )
    return [group for group in groups if len(group) >= batch_size]


@dataclass(frozen=True)
class BatchSource:
    """A source of batches from the latents store.

    Attributes:
        store: The latents store.
        objective: Noise offset and caption dropout.
        timesteps: Length of the noise schedule.
        scaling: The VAE's scaling factor.
        seed: The training's seed.
    """

    store: LatentsStore
    objective: ObjectiveConfig
    timesteps: int
    scaling: float
    seed: int

    def batch(self, clips: Sequence[Clip], step: int) -> Batch:
        """Return the batch of `clips` at a step; a clip's draws do not depend on the other clips."""
        drawn = [self._clip(clip, step) for clip in clips]
        latents, noise, timestep, text = zip(*drawn, strict=True)
        return Batch(torch.stack(latents), torch.stack(noise), torch.tensor(timestep), torch.stack(text))

    def _clip(self, clip: Clip, step: int) -> tuple[Tensor, Tensor, int, Tensor]:
        mean, logvar = self.store.moments(clip)
        dropout = self.objective.caption_dropout
        drawn = draw(self.seed, step, clip.clip_id, mean.shape, self.timesteps, dropout)
        latents = (mean + torch.exp(0.5 * logvar) * drawn.posterior) * self.scaling
        noise = drawn.noise + self.objective.noise_offset * drawn.offset
        return latents, noise, drawn.timestep, self._text(clip, step, drawn.drop_caption)

    def _text(self, clip: Clip, step: int, drop: bool) -> Tensor:
        if drop:
            return self.store.no_text
        return self.store.text(clip, draw_caption(self.seed, step, clip.clip_id, len(clip.captions)))
