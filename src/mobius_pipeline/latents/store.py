"""The latents store: immutable shards named by their content, and an index.

    <root>/current.json                     names the folder in use
    <root>/<encoder fingerprint>/
      shard-<hash>.safetensors              mean, logvar: (n, F, C, h, w) fp16
      text-<hash>.safetensors               embedding: (n, L, D) fp16, one per distinct caption
      index.parquet                         a row a clip: where its latents and its caption's embedding are,
                                            and its size

Tensors are read by memory map, a clip at a time.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mobius_pipeline.config import ClipFormat, ClipSize
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import digest, read_json, sync

STORE_VERSION = 1
INDEX = "index.parquet"
CURRENT = "current.json"


def write_shard(folder: Path, kind: str, tensors: dict[str, Tensor]) -> str:
    """Write tensors into a shard named by the hash of its bytes and return its file name."""
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    path = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:20]}.safetensors"
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    sync(partial)
    partial.replace(path)
    return path.name


def is_whole(path: Path) -> bool:
    """Whether a shard exists and its bytes are those that its name promises."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()[:20] == path.stem.split("-")[1]


@dataclass(frozen=True)
class Clip:
    """Where the store keeps a clip."""

    clip_id: str
    path: str
    caption: str
    shard: str
    row: int
    text_shard: str
    text_row: int
    frames: int
    height: int
    width: int

    @property
    def size(self) -> ClipSize:
        """What it was encoded at, in px."""
        return ClipSize(frames=self.frames, height=self.height, width=self.width)


def of_one_size(clips: Iterable[Clip]) -> list[list[Clip]]:
    """The clips of each size, in their order; short and small sizes first."""

    def size(clip: Clip) -> tuple[int, int, int]:
        return clip.frames, clip.height, clip.width

    return [list(group) for _, group in groupby(sorted(clips, key=size), key=size)]


class LatentsStore:
    """A store to read from."""

    def __init__(self, root: Path) -> None:
        """Open the folder that `current.json` names.

        Raises:
            MobiusError: If there is no store.
        """
        if not (root / CURRENT).is_file():
            raise MobiusError(f"There is no latents store in {root}. Run `kedro run --pipelines=encode`.")
        self.root = root
        self.current: dict[str, Any] = read_json(root / CURRENT)
        self.folder = root / self.current["folder"]
        if "clip" not in self.current:
            raise MobiusError(
                f"The latents store in {root} is of an earlier version. Run `kedro run --pipelines=encode`: "
                "it brings the store up to date."
            )
        self.clip = ClipFormat(**self.current["clip"])
        self.index = pd.read_parquet(self.folder / INDEX)
        self._open: dict[str, Any] = {}

    def clips(self, split: str) -> list[Clip]:
        """The clips of a split, ordered by clip id."""
        index = self.index
        rows = index[(index["split"] == split) & (index["clip_id"] != "")].sort_values("clip_id")
        fields = list(Clip.__annotations__)
        return [Clip(*row) for row in rows[fields].itertuples(index=False, name=None)]

    @cached_property
    def digest(self) -> str:
        """Digest of the data: encoder, clips, captions and splits."""
        columns = ["clip_id", "caption", "split", "shard", "row", "text_shard", "text_row"]
        return digest(
            [self.current["fingerprint"], self.index[columns].sort_values(columns).to_dict("records")]
        )

    def moments(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Posterior mean and log-variance of a clip, each (C, F, h, w) float32."""
        mean, logvar = (self._slice(clip.shard, name, clip.row) for name in ("mean", "logvar"))
        return mean.transpose(0, 1), logvar.transpose(0, 1)

    def text(self, clip: Clip) -> Tensor:
        """Embedding of a clip's caption, (L, D) float32."""
        return self._slice(clip.text_shard, "embedding", clip.text_row)

    @cached_property
    def no_text(self) -> Tensor:
        """Embedding of the empty caption, for classifier-free guidance, (L, D) float32."""
        empty = self.index[self.index["clip_id"] == ""].iloc[0]
        return self._slice(empty["text_shard"], "embedding", int(empty["text_row"]))

    def _slice(self, shard: str, name: str, row: int) -> Tensor:
        if shard not in self._open:
            try:
                self._open[shard] = safe_open(self.folder / shard, framework="pt")
            except (OSError, FileNotFoundError) as error:
                raise MobiusError(
                    f"The latents store lacks {self.folder / shard} ({error}). "
                    "Run `kedro run --pipelines=encode`: it encodes again only what that shard held."
                ) from error
        tensor: Tensor = self._open[shard].get_slice(name)[row]
        return tensor.to(torch.float32)
