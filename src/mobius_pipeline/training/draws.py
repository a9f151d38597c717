"""Every random draw of a training, from (seed, step, clip) alone.

So serial and parallel see the same draws, and a resumed run sees those that it would have seen.
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
    """Draw for a clip at a step, whatever its place in the batch and wherever it is trained.

    Args:
        seed: The run's seed.
        step: The optimiser step.
        clip_id: The clip.
        shape: (C, F, h, w).
        timesteps: Length of the noise schedule.
        caption_dropout: Probability that the caption is left out.
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
    """Which of a clip's captions a step takes, each as likely; a draw of its own, that moves no other one."""
    if captions == 1:
        return 0
    return int(torch.randint(captions, (), generator=generator("caption", seed, step, clip_id)))


class Batches(Generic[T]):
    """Which items each step takes, all of one bucket.

    Each epoch is a shuffle from (seed, epoch) of every bucket, and of the order in which their batches come;
    a bucket's incomplete last batch is left out.
    """

    def __init__(self, buckets: Sequence[Sequence[T]], batch_size: int, seed: int) -> None:
        """Take batches of `batch_size` items from `buckets`, each of which fills one at least."""
        self._buckets, self._batch_size, self._seed = buckets, batch_size, seed
        self.per_epoch = sum(len(bucket) // batch_size for bucket in buckets)
        self._order = lru_cache(maxsize=2)(self._shuffled)  # the next batch may be of the next epoch

    def at(self, step: int) -> list[T]:
        """The items of a step."""
        epoch, place = divmod(step, self.per_epoch)
        bucket, indices = self._order(epoch)[place]
        return [self._buckets[bucket][index] for index in indices]

    def _shuffled(self, epoch: int) -> list[tuple[int, list[int]]]:
        """An epoch's batches in their order: the bucket, and the items' places in it."""
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
