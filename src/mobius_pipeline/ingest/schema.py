"""What the tables of clips must hold where they are read; `ingest/table.py` says what the columns are."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mobius_pipeline.runtime.files import OUTSIDE
from mobius_pipeline.runtime.tables import Rule, Table, at_least, in_lists, inside, matching

_TEXTS = ("clip_id", "source_sha256", "path", "caption", "split", "status")
_INTEGERS = ("start_frame", "end_frame", "frames", "model_frames", "width", "height", "bytes")
_DECIMALS = ("fps", "duration_s")
_FOLDER = "the folder of clips"
_SHA256 = "^[0-9a-f]{64}$"
_CAPTIONS = pa.field("captions", pa.list_(pa.string()), nullable=False)
_FAILURES = pa.list_(pa.struct(dict.fromkeys(("column", "label", "observed", "required"), pa.string())))


def _of_clips(nullable: bool) -> list[pa.Field]:
    kinds = {
        **dict.fromkeys(_TEXTS, pa.string()),
        **dict.fromkeys(_INTEGERS, pa.int64()),
        **dict.fromkeys(_DECIMALS, pa.float64()),
    }
    return [_CAPTIONS, *(pa.field(name, kind, nullable) for name, kind in kinds.items())]


def _readable_ones_inside(table: pa.Table) -> Any:
    """A listing may name what lies outside; such a source is rejected, and its row says so."""
    outside = pc.match_substring_regex(table["path"], OUTSIDE)
    return pc.invert(pc.and_(pc.equal(table["status"], "ok"), outside))


def _first_caption(table: pa.Table) -> Any:
    return pc.equal(pc.list_element(table["captions"], 0), table["caption"])


def _captioned(table: pa.Table) -> Any:
    return pc.greater(pc.list_value_length(table["captions"]), 0)


# Nulls in its other columns are for `validate`, which puts their clips into the quarantine.
CLIPS = Table(
    pa.schema(
        [*_of_clips(nullable=True), pa.field("container", pa.string()), pa.field("codec", pa.string())]
    ),
    rules=(Rule("path", _readable_ones_inside, f"a path inside {_FOLDER}"),),
)
TO_ENCODE = Table(
    pa.schema(_of_clips(nullable=False)),
    unique=("clip_id", "path"),
    rules=(
        matching("clip_id", _SHA256, "a SHA-256"),
        matching("source_sha256", _SHA256, "a SHA-256"),
        matching("path", ".", "a path"),
        inside("path", _FOLDER),
        Rule("captions", _captioned, "one caption or more"),
        in_lists("captions", lambda texts: pc.match_substring_regex(texts, r"\S"), "a list of captions"),
        Rule("caption", _first_caption, "the first of the captions"),
        matching("split", "^(train|heldout)$", "train or heldout"),
        matching("status", "^ok$", "ok"),
        *(at_least(column, 1) for column in ("model_frames", "width", "height")),
    ),
)
MANIFEST = replace(
    TO_ENCODE, columns=TO_ENCODE.columns.append(pa.field("warnings", _FAILURES, nullable=False))
)
QUARANTINE = Table(
    pa.schema([pa.field("path", pa.string()), pa.field("failures", _FAILURES, nullable=False)])
)
