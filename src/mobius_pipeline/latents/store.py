"""The latents store: immutable shards named by their content, and an index.

    <root>/current.json                     names the folder in use
    <root>/<encoder fingerprint>/
      shard-<hash>.safetensors              mean, logvar: (n, F, C, h, w) fp16
      text-<hash>.safetensors               embedding: (n, L, D) fp16, one per distinct caption
      index.parquet                         one row per clip: its size, and where its latents and the
                                            embeddings of its captions are; written last

Tensors are memory-mapped and read one clip at a time. A shard's hash is verified when a process first opens
it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field

from mobius_pipeline.ingest.split import Split
from mobius_pipeline.latents.index import INDEX, read_index
from mobius_pipeline.latents.shards import HASH_DIGITS, REMEDY, mapped, row_names
from mobius_pipeline.media.clip_format import ClipFormat, ClipSize
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import digest, read_document, unusable

if TYPE_CHECKING:
    from torch import Tensor

STORE_VERSION = 1
CURRENT = "current.json"


class Current(BaseModel):
    """The content of `current.json`: the folder in use, its encoder's fingerprint and the clip format."""

    folder: str = Field(pattern=f"^[0-9a-f]{{{HASH_DIGITS}}}$")
    fingerprint: str
    clip: ClipFormat


@dataclass(frozen=True)
class Clip:
    """A clip of the store: its places in shards, its captions and its size."""

    clip_id: str
    path: str
    captions: tuple[str, ...]
    shard: str
    row: int
    text_shards: tuple[str, ...]  # one for each caption
    text_rows: tuple[int, ...]
    frames: int
    height: int
    width: int

    @property
    def caption(self) -> str:
        """The first caption, used as the prompt of samples; "" if there is none."""
        return self.captions[0]

    @property
    def size(self) -> ClipSize:
        """The size that the clip was encoded at, in frames and px."""
        return ClipSize(frames=self.frames, height=self.height, width=self.width)


def of_one_size(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Group clips by size, short and small sizes first; clips keep their order."""

    def size(clip: Clip) -> tuple[int, int, int]:
        return clip.frames, clip.height, clip.width

    return [list(group) for _, group in groupby(sorted(clips, key=size), key=size)]


class LatentsStore:
    """A latents store, opened for reading."""

    def __init__(self, root: Path) -> None:
        """Open the folder that `current.json` names.

        Raises:
            MobiusError: If there is no store, or `current.json` or the index is damaged.
        """
        if not (root / CURRENT).is_file():
            raise MobiusError(f"There is no latents store in {root}. Run `kedro run --pipelines=encode`.")
        self.root = root
        self.current = read_document(root / CURRENT, Current, REMEDY)
        self.folder = root / self.current.folder
        self.clip = self.current.clip
        self.index = read_index(self.folder)
        self._open: dict[str, tuple[dict[str, Tensor], list[str]]] = {}

    @classmethod
    def load(cls, root: Path) -> Self:
        """Open a store."""
        return cls(root)

    def clips(self, split: Split) -> list[Clip]:
        """Return the clips of a split, sorted by clip id."""
        index = self.index
        rows = index[(index["split"] == split) & (index["clip_id"] != "")].sort_values("clip_id")
        fields = list(Clip.__annotations__)
        return [Clip(*map(_fixed, row)) for row in rows[fields].itertuples(index=False, name=None)]

    @property
    def paths(self) -> list[str]:
        """The paths of all clips, in the order of the manifest."""
        return [str(path) for path in self.index["path"][self.index["clip_id"] != ""]]

    @cached_property
    def digest(self) -> str:
        """Digest of the encoder, the clips, their captions and their splits."""
        columns = ["clip_id", "captions", "split", "shard", "row", "text_shards", "text_rows"]
        rows = self.index[columns].itertuples(index=False, name=None)
        return digest([self.current.fingerprint, sorted(tuple(map(_fixed, row)) for row in rows)])

    def moments(self, clip: Clip) -> "tuple[Tensor, Tensor]":
        """Return the posterior mean and log-variance of a clip, each (C, F, h, w) float32."""
        mean, logvar = (self._slice(clip.shard, name, clip.row, clip.clip_id) for name in ("mean", "logvar"))
        return mean.transpose(0, 1), logvar.transpose(0, 1)

    def text(self, clip: Clip, caption: int = 0) -> "Tensor":
        """Return the embedding of the caption with index `caption` of a clip, (L, D) float32."""
        place = clip.text_shards[caption], "embedding", clip.text_rows[caption]
        return self._slice(*place, clip.captions[caption])

    @cached_property
    def no_text(self) -> "Tensor":
        """Embedding of the empty caption, for classifier-free guidance, (L, D) float32."""
        empty = self.index[self.index["clip_id"] == ""].iloc[0]
        return self._slice(empty["text_shards"][0], "embedding", int(empty["text_rows"][0]), "")

    def _slice(self, shard: str, name: str, row: int, of: str) -> "Tensor":
        """Return a row of a shard; raise if it does not belong to the clip or caption `of`."""
        if shard not in self._open:
            self._open[shard] = mapped(self.folder / shard), row_names(self.folder / shard)
        tensors, names = self._open[shard]
        if row >= len(tensors[name]) or (names and names[row] != of):
            what = f"{of!r} is not in row {row} of {shard} (rows count from 0)"
            raise unusable(self.folder / INDEX, what, REMEDY)
        return tensors[name][row].float()


def _fixed(value: Any) -> Any:
    """Convert a list of the index to a tuple."""
    return value if isinstance(value, str | int) else tuple(getattr(value, "tolist", lambda: value)())
