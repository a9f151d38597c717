"""Collect results, which arrive in any order, into shards.

A shard is written, with its rows in a fixed order, as soon as its last row has arrived. So its content does
not depend on the order of work, and only the rows of unfinished shards are in memory.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mobius_pipeline.latents.dataflow import EncodedTexts
from mobius_pipeline.latents.encoder import Encoded, halves
from mobius_pipeline.latents.index import CLIPS, TEXTS, Places, placed
from mobius_pipeline.latents.shards import write_shard

BATCHES_PER_SHARD = 8  # batches of captions


class ClipShards:
    """Shards of clips that are being filled."""

    def __init__(self, folder: Path, groups: Sequence[Sequence[str]]) -> None:
        """Plan one shard for each of `groups`, which hold clip ids."""
        self._folder = folder
        shards: list[dict[str, Encoded | None]] = [dict.fromkeys(group) for group in groups]
        self._shard_of = {clip_id: shard for shard in shards for clip_id in shard}

    def take(self, encoded: Encoded) -> Places:
        """Add a clip. If its shard is complete, write the shard and return the places of its clips."""
        shard = self._shard_of.pop(encoded.clip_id)
        shard[encoded.clip_id] = encoded
        if None in shard.values():
            return {}
        moments = {one.clip_id: one.moments for one in shard.values() if one and one.moments}
        if not moments:  # none of them could be encoded
            return {}
        mean, logvar = (torch.stack([*map(halves, one)]) for one in zip(*moments.values(), strict=True))
        name = write_shard(self._folder, CLIPS, list(moments), {"mean": mean, "logvar": logvar})
        return placed(name, moments)


class TextShards:
    """Shards of captions that are being filled, with `BATCHES_PER_SHARD` batches each."""

    def __init__(self, folder: Path, batches: Sequence[list[str]]) -> None:
        """Plan the shards for `batches` of captions."""
        self._folder, self.batches = folder, batches
        self._waiting: dict[int, dict[int, Tensor]] = {}

    def take(self, encoded: EncodedTexts) -> Places:
        """Add a batch. If its shard is complete, write the shard and return the places of its captions."""
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
