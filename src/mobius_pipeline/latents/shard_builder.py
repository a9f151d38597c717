"""Shards that are being filled, by what may come in any order.

Each is written, its rows in their order, as soon as the last of them has come: what a shard holds does not
depend on the order of work, and only rows of unfinished shards are in memory.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mobius_pipeline.latents.dataflow import EncodedTexts
from mobius_pipeline.latents.encoder import Encoded, halves
from mobius_pipeline.latents.index import CLIPS, TEXTS, Places, placed
from mobius_pipeline.latents.shards import write_shard

BATCHES_PER_SHARD = 8  # of captions


class ClipShards:
    """Shards of clips."""

    def __init__(self, folder: Path, groups: Sequence[Sequence[str]]) -> None:
        """Name the clips of each shard by their ids."""
        self._folder = folder
        shards: list[dict[str, Encoded | None]] = [dict.fromkeys(group) for group in groups]
        self._shard_of = {clip_id: shard for shard in shards for clip_id in shard}

    def take(self, encoded: Encoded) -> Places:
        """Take a clip in; if it was the last of its shard, write that and say where its clips are."""
        shard = self._shard_of.pop(encoded.clip_id)
        shard[encoded.clip_id] = encoded
        if None in shard.values():
            return {}
        moments = {one.clip_id: one.moments for one in shard.values() if one and one.moments}
        if not moments:  # not one of them could be read
            return {}
        mean, logvar = (torch.stack([*map(halves, one)]) for one in zip(*moments.values(), strict=True))
        name = write_shard(self._folder, CLIPS, list(moments), {"mean": mean, "logvar": logvar})
        return placed(name, moments)


class TextShards:
    """Shards of captions, of `BATCHES_PER_SHARD` batches each."""

    def __init__(self, folder: Path, batches: Sequence[list[str]]) -> None:
        """Name the captions of each batch."""
        self._folder, self.batches = folder, batches
        self._waiting: dict[int, dict[int, Tensor]] = {}

    def take(self, encoded: EncodedTexts) -> Places:
        """Take a batch in; if it was the last of its shard, write that and say where its captions are."""
        number = encoded.batch // BATCHES_PER_SHARD
        first = number * BATCHES_PER_SHARD
        batches = self.batches[first : first + BATCHES_PER_SHARD]
        here = self._waiting.setdefault(number, {})
        here[encoded.batch] = encoded.embeddings
        if len(here) < len(batches):
            return {}
        captions = [caption for batch in batches for caption in batch]
        embeddings = torch.cat([here[batch] for batch in sorted(here)])
        del self._waiting[number]
        name = write_shard(self._folder, TEXTS, captions, {"embedding": embeddings})
        return placed(name, captions)
