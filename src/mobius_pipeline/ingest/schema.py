"""Define the clip table's columns, from which rows, readers, validation and docs/clip_table.md are derived.

The manifest and the quarantine have the same columns, and those that `validate` adds.
"""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mobius_pipeline.ingest.split import SPLITS
from mobius_pipeline.runtime.files import OUTSIDE
from mobius_pipeline.runtime.tables import Condition, Table, at_least, in_lists, inside, matching, one_of

Row = dict[str, Any]
Rows = list[Row]

OK, REJECTED = "ok", "rejected"  # values of `status`
_TEXT, _INTEGER, _DECIMAL = pa.string(), pa.int64(), pa.float64()
_ABOUT, _UNIT = b"about", b"unit"  # keys of a column's metadata


def _column(name: str, kind: pa.DataType, about: str, unit: str = "", *, required: bool = False) -> pa.Field:
    """Define a column. Every clip that is trained on has a value in a `required` column."""
    return pa.field(name, kind, not required, {_ABOUT: about.encode(), _UNIT: unit.encode()})


# Columns that are read from the source itself, in the order of the table.
SOURCE_COLUMNS = pa.schema(
    [
        _column(
            "source",
            _TEXT,
            "file, member of a tar shard or folder of images, as a POSIX path in the folder of clips",
        ),
        _column("source_sha256", _TEXT, "SHA-256 of the source's bytes", "hex", required=True),
        _column("bytes", _INTEGER, "size of the source", "bytes", required=True),
        _column(
            "path",
            _TEXT,
            "the source, or a segment of it: `a/b.mp4#t=1.5,3` in seconds; unique among clips",
            required=True,
        ),
        _column("start_frame", _INTEGER, "first frame of the clip in its source", "frames", required=True),
        _column("end_frame", _INTEGER, "end of the clip in its source, exclusive", "frames", required=True),
        _column("frames", _INTEGER, "decoded frames of the clip", "frames", required=True),
        _column("fps", _DECIMAL, "mean frame rate", "frames a second", required=True),
        _column("duration_s", _DECIMAL, "length of the clip", "s", required=True),
        _column("width", _INTEGER, "width as displayed", "px", required=True),
        _column("height", _INTEGER, "height as displayed", "px", required=True),
        _column("aspect", _DECIMAL, "width / height"),
        _column("container", _TEXT, "container format, as FFmpeg or Pillow names it"),
        _column("codec", _TEXT, "codec, as FFmpeg or Pillow names it"),
        _column(
            "motion",
            _DECIMAL,
            "mean change of a pixel from frame to frame at the model's rate",
            "grey levels, 0 to 255",
        ),
        _column("static_share", _DECIMAL, "share of frames that change by less than half a grey level"),
        _column("black_share", _DECIMAL, "share of frames that are nearly black"),
        _column(
            "flicker", _DECIMAL, "mean absolute second difference of a frame's brightness", "grey levels"
        ),
        _column(
            "likeness",
            _TEXT,
            "perceptual hashes of the first, the middle and the last frame, 64 bits each",
            "hex",
        ),
        _column("status", _TEXT, "`ok` or `rejected`", required=True),
        _column("reason", _TEXT, "why the source was rejected"),
    ]
)
CLIP_COLUMNS = pa.schema(
    [
        *SOURCE_COLUMNS,
        _column("captions", pa.list_(_TEXT), "distinct captions of the clip", required=True),
        _column("caption", _TEXT, "the first of `captions`; empty if there is none", required=True),
        _column("words", _INTEGER, "words in `caption`, counting only letters: 1 for `IMG_0042`"),
        _column("model_frames", _INTEGER, "frames of the clip at the model's rate", "frames", required=True),
        _column("group", _TEXT, "from the captions or the listing; all clips of a group have one split"),
        _column(
            "split",
            _TEXT,
            "`train` or `heldout`, by the hash of the group, or of the source if it has no group",
            required=True,
        ),
        _column(
            "clip_id",
            _TEXT,
            "SHA-256 of (SHA-256 of the source, start frame, end frame)",
            "hex",
            required=True,
        ),
    ]
)
_FAILURES = pa.list_(
    pa.struct(dict.fromkeys(("expectation", "column", "label", "observed", "required"), pa.string()))
)
_FOLDER = "the folder of clips"
_SHA256 = "^[0-9a-f]{64}$"
_EMPTY = {_TEXT: "", _INTEGER: 0, _DECIMAL: 0.0}


def in_file(columns: pa.Schema) -> pa.Schema:
    """Return the columns as stored in a Parquet file: nullable and without metadata."""
    return pa.schema([field.remove_metadata().with_nullable(True) for field in columns])


def meaning_of(column: str) -> str:
    """Return the description of a column of the clip table."""
    return str(CLIP_COLUMNS.field(column).metadata[_ABOUT].decode())


def unit_of(column: str) -> str:
    """Return the unit of a column of the clip table, or ""."""
    return str(CLIP_COLUMNS.field(column).metadata[_UNIT].decode())


def rejected(source: str, reason: str, **known: Any) -> Row:
    """Return the row of a rejected source; `known` gives further columns."""
    empty = {field.name: _EMPTY[field.type] for field in SOURCE_COLUMNS}
    return {**empty, "source": source, "path": source, "status": REJECTED, "reason": reason, **known}


def _readable_ones_inside(table: pa.Table) -> Any:
    """Allow paths outside the folder in rejected rows only: a listing may name such a source."""
    outside = pc.match_substring_regex(table["path"], OUTSIDE)
    return pc.invert(pc.and_(pc.equal(table["status"], OK), outside))


def _first_caption(table: pa.Table) -> Any:
    return pc.equal(pc.list_element(table["captions"], 0), table["caption"])


def _captioned(table: pa.Table) -> Any:
    return pc.greater(pc.list_value_length(table["captions"]), 0)


# Nulls are allowed here: `validate` quarantines their clips.
CLIPS = Table(
    pa.schema([field.with_nullable(not pa.types.is_list(field.type)) for field in CLIP_COLUMNS]),
    rules=(Condition("path", _readable_ones_inside, f"a path inside {_FOLDER}"),),
)
TO_ENCODE = Table(
    pa.schema([field for field in CLIP_COLUMNS if not field.nullable]),
    unique=("clip_id", "path"),
    rules=(
        matching("clip_id", _SHA256, "a SHA-256"),
        matching("source_sha256", _SHA256, "a SHA-256"),
        matching("path", ".", "a path"),
        inside("path", _FOLDER),
        Condition("captions", _captioned, "one caption or more"),
        in_lists("captions", lambda texts: pc.match_substring_regex(texts, r"\S"), "a list of captions"),
        Condition("caption", _first_caption, "the first of the captions"),
        one_of("split", SPLITS),
        one_of("status", [OK]),
        *(at_least(column, 1) for column in ("model_frames", "width", "height")),
    ),
)
MANIFEST = replace(
    TO_ENCODE, columns=TO_ENCODE.columns.append(pa.field("warnings", _FAILURES, nullable=False))
)
QUARANTINE = Table(
    pa.schema([pa.field("path", pa.string()), pa.field("failures", _FAILURES, nullable=False)])
)
