"""Random draws of a training, computed from (seed, step, clip) alone.

Serial and parallel therefore see the same draws, and a resumed run sees those of an uninterrupted one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

from mobius_pipeline.runtime.rng import generator

T = TypeVar("T")


@dataclass(frozen=True)
class Draw:
    """The draws of one clip at one step; noise and posterior sample are (C, F, h, w) standard normal."""

    timestep: int
    noise: Tensor
    posterior: Tensor
    offset: Tensor  # (C, 1, 1, 1) standard normal, for the noise offset
    drop_caption: bool


def draw(
    seed: int, step: int, clip_id: str, shape: Sequence[int], timesteps: int, caption_dropout: float
) -> Draw:
    """Draw for a clip at a step, independent of the rest of the batch and of the device.

    Args:
        seed: The training's seed.
        step: Number of the optimiser step.
        clip_id: The clip's `clip_id`.
        shape: Shape of the latents, (C, F, h, w).
        timesteps: Length of the noise schedule.
        caption_dropout: Probability that the caption is dropped.
    """
    source = generator("draw", seed, step, clip_id)
    return Draw(
        timestep=int(torch.randint(timesteps, (), generator=source)),
        noise=torch.randn(*shape, generator=source),
        posterior=torch.randn(*shape, generator=source),
        offset=torch.randn(shape[0], 1, 1, 1, generator=source),
        drop_caption=bool(torch.rand((), generator=source) < caption_dropout),
    )


def draw_caption(seed: int, step: int, clip_id: str, captions: int) -> int:
    """Return which of a clip's captions a step uses, with equal probability; does not affect other draws."""
    if captions == 1:
        return 0
    return int(torch.randint(captions, (), generator=generator("caption", seed, step, clip_id)))


class Batches(Generic[T]):
    """The items that each step takes, all from one bucket.

    Each epoch shuffles every bucket and the order of all batches, from (seed, epoch). A bucket's incomplete
    last batch is left out.
    """

    def __init__(self, buckets: Sequence[Sequence[T]], batch_size: int, seed: int) -> None:
        """Form batches of `batch_size` items from `buckets`, each of which must fill at least one."""
        self._buckets, self._batch_size, self._seed = buckets, batch_size, seed
        self.per_epoch = sum(len(bucket) // batch_size for bucket in buckets)
        self._order = lru_cache(maxsize=2)(self._shuffled)  # the next step may be in the next epoch

    def at(self, step: int) -> list[T]:
        """Return the items of a step."""
        epoch, place = divmod(step, self.per_epoch)
        bucket, indices = self._order(epoch)[place]
        return [self._buckets[bucket][index] for index in indices]

    def _shuffled(self, epoch: int) -> list[tuple[int, list[int]]]:
        """Return an epoch's batches in order: the bucket, and the indices of the items in it."""
        source = generator("epoch", self._seed, epoch)
        size = self._batch_size
        batches = []
        for number, bucket in enumerate(self._buckets):
            order = torch.randperm(len(bucket), generator=source).tolist()
            batches += [
                (number, order[start : start + size]) for start in range(0, len(order) - size + 1, size)
            ]
        if len(self._buckets) > 1:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=source).tolist()]
        return batches
