"""The index of a latents store: which shard and row hold each clip's latents and its captions' embeddings."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from mobius_pipeline.latents.shards import SUFFIX, replacing, row_names

INDEX = "index.parquet"
CLIPS, TEXTS = "shard", "text"  # what the names of shards begin with
SIZE = ("frames", "height", "width")  # that a clip was encoded at; 0 for the empty caption, no clip's


class Place(NamedTuple):
    """Where one row of a shard is."""

    shard: str
    row: int


Places = dict[str, Place]  # by clip id, or by caption

_SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),  # "" in the row of the empty caption
        "path": pa.string(),
        "captions": pa.list_(pa.string()),
        "split": pa.string(),
        "shard": pa.string(),
        "row": pa.int64(),
        "text_shards": pa.list_(pa.string()),  # one a caption
        "text_rows": pa.list_(pa.int64()),
        **dict.fromkeys(SIZE, pa.int64()),
    }
)


def placed(shard: str, names: Iterable[str]) -> Places:
    """The rows of a shard, in order."""
    return {name: Place(shard, row) for row, name in enumerate(names)}


def write_index(folder: Path, manifest: pd.DataFrame, clips: Places, texts: Places) -> None:
    """Write the index of a manifest's clips and of the empty caption.

    Args:
        folder: The store's folder of this encoder.
        manifest: A row a clip with `clip_id`, `path`, `split`, `captions` and its size.
        clips: By clip id.
        texts: By caption.
    """
    about: list[Any] = manifest[["clip_id", "path", "split", "captions", *SIZE]].to_dict("records")
    empty: dict[str, Any] = {
        "clip_id": "",
        "path": "",
        "split": "",
        "captions": [""],
        **dict.fromkeys(SIZE, 0),
    }
    rows = [_row(one, clips, texts) for one in (*about, empty)]
    with replacing(folder / INDEX) as partial:
        parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)


def _row(about: dict[str, Any], clips: Places, texts: Places) -> dict[str, Any]:
    place = clips.get(about["clip_id"], Place("", -1))
    shards, rows = zip(*(texts[caption] for caption in about["captions"]), strict=True)
    return {**about, "shard": place.shard, "row": place.row, "text_shards": shards, "text_rows": rows}


def read_index(folder: Path) -> pd.DataFrame:
    """Read the index; one that was written when a clip had one caption gets the columns of today."""
    index = pd.read_parquet(folder / INDEX)
    if "captions" in index:
        return index
    lists = {"captions": "caption", "text_shards": "text_shard", "text_rows": "text_row"}
    for new, old in lists.items():
        index[new] = [[value] for value in index.pop(old)]
    return index


def find(folder: Path, kind: str, names: Iterable[str], is_usable: Callable[[str], bool]) -> Places:
    """Where the folder holds `names` already.

    The last index comes first, so that what it names stays where it is. Then come the shards that it does not
    tell of: those of a run that was killed, and those that clips have left and may come back to.

    Args:
        folder: The store's folder of this encoder.
        kind: `CLIPS` or `TEXTS`.
        names: Clip ids or captions.
        is_usable: Of a shard's name; asked only about shards that hold one of the names.
    """
    wanted, found = set(names), Places()
    usable = cache(is_usable)
    for name, place in chain(_indexed(folder, kind), _described(folder, kind)):
        if name in wanted and name not in found and usable(place.shard):
            found[name] = place
    return found


def _indexed(folder: Path, kind: str) -> Iterator[tuple[str, Place]]:
    if not (folder / INDEX).is_file():
        return
    index = read_index(folder)
    if kind == TEXTS:
        index = index.explode(["captions", "text_shards", "text_rows"])
    columns = ["captions", "text_shards", "text_rows"] if kind == TEXTS else ["clip_id", "shard", "row"]
    for name, shard, row in index[columns].itertuples(index=False, name=None):
        if shard:
            yield name, Place(shard, int(row))


def _described(folder: Path, kind: str) -> Iterator[tuple[str, Place]]:
    for path in sorted(folder.glob(f"{kind}-*{SUFFIX}")):
        yield from placed(path.name, row_names(path)).items()
