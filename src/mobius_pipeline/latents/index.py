"""The index of a latents store: which shard and row hold each clip's latents and its captions' embeddings."""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from mobius_pipeline.latents.shards import HASH_DIGITS, REMEDY, SUFFIX, replacing, row_names
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import unusable
from mobius_pipeline.runtime.tables import (
    CHECKSUMS,
    Condition,
    Table,
    check_table,
    in_lists,
    inside,
    load_table,
)

log = logging.getLogger(__name__)

INDEX = "index.parquet"
CLIPS, TEXTS = "shard", "text"  # prefixes of the names of shards
SIZE = ("frames", "height", "width")  # that a clip was encoded at; 0 in the row of the empty caption


class Place(NamedTuple):
    """A row of a shard."""

    shard: str
    row: int


Places = dict[str, Place]  # by clip id, or by caption

_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in {
            "clip_id": pa.string(),  # "" in the row of the empty caption
            "path": pa.string(),
            "captions": pa.list_(pa.string()),
            "split": pa.string(),
            "shard": pa.string(),
            "row": pa.int64(),
            "text_shards": pa.list_(pa.string()),  # one for each caption
            "text_rows": pa.list_(pa.int64()),
            **dict.fromkeys(SIZE, pa.int64()),
        }.items()
    ]
)
_NAME = f"-[0-9a-f]{{{HASH_DIGITS}}}\\{SUFFIX}$"  # of a shard, after its kind


def _of_clips(column: str, holds: Callable[[Any], Any], required: str) -> Condition:
    """Return a rule for every row except that of the empty caption."""
    return Condition(
        column, lambda table: pc.or_(pc.equal(table["clip_id"], ""), holds(table[column])), required
    )


def _matches(pattern: str) -> Callable[[Any], Any]:
    return lambda texts: pc.match_substring_regex(texts, pattern)


def _one_a_caption(column: str) -> Condition:
    def holds(table: pa.Table) -> Any:
        lengths = [pc.list_value_length(table[name]) for name in ("captions", column)]
        return pc.and_(pc.equal(*lengths), pc.greater(lengths[0], 0))

    return Condition(column, holds, "one for each caption")


_INDEX = Table(
    _SCHEMA,
    unique=("clip_id",),
    rules=(
        inside("path", "the folder of clips"),
        _of_clips("split", _matches("^(train|heldout)$"), "train or heldout"),
        _of_clips("shard", _matches(f"^{CLIPS}{_NAME}"), "a shard of clips"),
        _of_clips("row", lambda rows: pc.greater_equal(rows, 0), "0 or more"),
        *(_of_clips(name, lambda sizes: pc.greater(sizes, 0), "1 or more") for name in SIZE),
        _one_a_caption("text_shards"),
        _one_a_caption("text_rows"),
        in_lists("text_shards", _matches(f"^{TEXTS}{_NAME}"), "a list of shards of captions"),
        in_lists("text_rows", lambda rows: pc.greater_equal(rows, 0), "a list of 0 or more"),
    ),
)


def placed(shard: str, names: Iterable[str]) -> Places:
    """Return the place of each of `names`, which are the rows of a shard in order."""
    return {name: Place(shard, row) for row, name in enumerate(names)}


def write_index(folder: Path, manifest: pd.DataFrame, clips: Places, texts: Places) -> None:
    """Write the index of a manifest's clips and of the empty caption.

    Args:
        folder: The store's folder for this encoder.
        manifest: One row per clip with `clip_id`, `path`, `split`, `captions` and its size.
        clips: Places of the latents, by clip id.
        texts: Places of the embeddings, by caption.
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
        parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial, **CHECKSUMS)


def _row(about: dict[str, Any], clips: Places, texts: Places) -> dict[str, Any]:
    place = clips.get(about["clip_id"], Place("", -1))
    shards, rows = zip(*(texts[caption] for caption in about["captions"]), strict=True)
    return {**about, "shard": place.shard, "row": place.row, "text_shards": shards, "text_rows": rows}


def read_index(folder: Path) -> pd.DataFrame:
    """Read the index. The format with one caption per clip is converted to the current one.

    Raises:
        MobiusError: If it is missing, damaged or invalid; the error names the row, the column and the remedy.
    """
    path = folder / INDEX
    table = load_table(path, REMEDY)
    lists = {"captions": "caption", "text_shards": "text_shard", "text_rows": "text_row"}
    if "captions" not in table.schema.names and {*lists.values()} <= {*table.schema.names}:
        for new, old in lists.items():
            singles = [[value] for value in table[old].to_pylist()]
            table = table.append_column(new, pa.array(singles, _SCHEMA.field(new).type)).drop_columns(old)
    check_table(table, _INDEX, path, REMEDY)
    if "" not in table["clip_id"].to_pylist():
        raise unusable(path, "it has no row for the empty caption", REMEDY)
    index: pd.DataFrame = table.to_pandas()
    return index


def find(folder: Path, kind: str, names: Iterable[str], is_usable: Callable[[str], bool]) -> Places:
    """Return the places of those of `names` that the store already holds.

    The current index has priority over shard headers, so that entries keep their places where both agree.
    Shards that it does not list are searched too: those of a run that was killed, and those of clips that
    were removed and may return.

    Args:
        folder: The store's folder for this encoder.
        kind: `CLIPS` or `TEXTS`.
        names: Clip ids or captions.
        is_usable: Whether the shard of that name is intact; called only for shards that hold one of the
            names.
    """
    wanted, found = set(names), Places()
    usable, held = cache(is_usable), cache(lambda shard: row_names(folder / shard))
    for name, place in chain(_indexed(folder, kind), _described(folder, kind)):
        if name not in wanted or name in found or not usable(place.shard):
            continue
        if (rows := held(place.shard)) and rows[place.row : place.row + 1] != [name]:
            log.warning("%s is not in row %d of %s, where the index places it.", name, place.row, place.shard)
            continue
        found[name] = place
    return found


def _indexed(folder: Path, kind: str) -> Iterator[tuple[str, Place]]:
    """Yield the entries of the index; none if it is missing or damaged (shard headers then replace it)."""
    if not (folder / INDEX).is_file():
        return
    try:
        index = read_index(folder)
    except MobiusError as error:
        log.warning("The index is rebuilt from the headers of the shards. %s", error)
        return
    columns = ["clip_id", "shard", "row"]
    if kind == TEXTS:
        columns = ["captions", "text_shards", "text_rows"]
        index = index.explode(columns)
    for name, shard, row in index[columns].itertuples(index=False, name=None):
        if shard:
            yield name, Place(shard, int(row))


def _described(folder: Path, kind: str) -> Iterator[tuple[str, Place]]:
    for path in sorted(folder.glob(f"{kind}-*{SUFFIX}")):
        yield from placed(path.name, row_names(path)).items()
