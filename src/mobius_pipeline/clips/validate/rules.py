"""The rules that clips, and their table as a whole, must keep.

Great Expectations skips nulls in every expectation but `not_be_null`, so each column is asked for those too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mobius_pipeline.clips.validate.data_docs import Expectation
from mobius_pipeline.config import ClipFormat, Config

TEXTS = ("clip_id", "source_sha256", "path", "caption", "split", "status")
INTEGERS = ("start_frame", "end_frame", "frames", "model_frames", "width", "height", "bytes")
DECIMALS = ("fps", "duration_s")
COLUMNS = (*TEXTS, *INTEGERS, *DECIMALS, "container", "codec", "reason")
# A column of integers is read as decimals where rejected rows leave it empty.
_NUMBER_TYPES = ["int64", "Int64", "Int64Dtype", "int32", "uint32", "uint64", "float64", "Float64Dtype"]
_UNITS = {"width": "px", "height": "px", "fps": "frames a second", "duration_s": "s"}
_KEY = "in conf/base/parameters_validate.yml (or your environment's)"


class Range(Config):
    """An interval that holds both its ends."""

    min: float
    max: float

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; swap them")
        return self


class ExpectationConfig(BaseModel):
    """An entry of `validate.expectations`: what a column's values must be, in Great Expectations' words.

    Attributes:
        expect: A column map expectation by its name in snake case; its options stand beside these keys.
        column: A column of the table of clips.
        action: A clip that fails is quarantined, or kept and counted ("warn"), or ends the run ("stop").
        label: What the log and the report call those that fail.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    expect: str
    column: str
    action: Literal["quarantine", "warn", "stop"] = "quarantine"
    label: str

    @property
    def expectation(self) -> Expectation:
        """It as Great Expectations' own."""
        return Expectation(self.expect, self.column, dict(self.model_extra or {}))


class ValidateConfig(Config):
    """The section `validate`: the limits that a clip, and the table as a whole, must keep.

    Attributes:
        width: Width of a clip in px.
        height: Height of a clip in px.
        fps: Mean frames a second of a clip.
        duration_s: Length of a clip in seconds.
        expectations: What else every readable clip must keep.
        warn_rejected_share: Above it a warning says so; `warn_quarantined_share` likewise.
        max_rejected_share: Largest share of unreadable rows among all rows.
        max_quarantined_share: Largest share of readable clips that may fail an expectation.
        min_clips: Fewest clips that must be left.
    """

    width: Range
    height: Range
    fps: Range
    duration_s: Range
    expectations: tuple[ExpectationConfig, ...] = ()
    warn_rejected_share: float = Field(ge=0, le=1)
    max_rejected_share: float = Field(ge=0, le=1)
    warn_quarantined_share: float = Field(ge=0, le=1)
    max_quarantined_share: float = Field(ge=0, le=1)
    min_clips: int = Field(ge=1)


@dataclass(frozen=True)
class RowRule:
    """An expectation on every readable clip.

    Attributes:
        expectation: What is asked.
        label: Counts the rows that fail it.
        says: Explains one of them.
        required: What a value must be, in words.
        is_asked_for: Whether it is an entry of `validate.expectations`; the others are the code's own.
    """

    expectation: Expectation
    label: str
    says: Callable[[dict[str, Any]], str]
    required: str
    is_asked_for: bool = False


@dataclass(frozen=True)
class TableRule:
    """An expectation whose failure stops the run: `sees` says what was found, `mend` what to do."""

    expectation: Expectation
    sees: Callable[[dict[str, Any]], str]
    mend: str


READABLE = Expectation("expect_column_values_to_be_in_set", "status", {"value_set": ["ok"]})
UNIQUE = RowRule(
    Expectation("expect_column_values_to_be_unique", "clip_id"),
    "duplicate",
    lambda row: f"duplicate of {row['first_path']}",
    "each clip once",
)


def row_rules(config: ValidateConfig, clip: ClipFormat) -> list[RowRule]:
    """List what every readable clip must keep, but for `UNIQUE`, which is judged among those that do."""
    shortest = min(size.frames for size in clip.sizes)
    present = (*(column for column in TEXTS if column != "status"), *INTEGERS, *DECIMALS)
    return [
        *(_present(column) for column in present),
        RowRule(
            Expectation("expect_column_values_to_match_regex", "caption", {"regex": r"\S"}),
            "no caption",
            lambda _: "no caption",
            "a caption",
        ),
        RowRule(
            Expectation("expect_column_values_to_be_between", "model_frames", {"min_value": shortest}),
            "too short",
            lambda row: f"{row['model_frames']:g} of {shortest} frames at {clip.rate:g} fps",
            f"at least {shortest} frames at {clip.rate:g} fps",
        ),
        *(_within(column, getattr(config, column)) for column in _UNITS),
        RowRule(
            Expectation("expect_column_values_to_be_in_set", "split", {"value_set": ["train", "heldout"]}),
            "unknown split",
            lambda row: f"split {row['split']!r} is neither 'train' nor 'heldout'",
            "train or heldout",
        ),
        *asked_rules(config, "quarantine"),
    ]


def asked_rules(config: ValidateConfig, action: str) -> list[RowRule]:
    """The rules of the entries of `validate.expectations` with that action."""
    return [_asked_rule(entry) for entry in config.expectations if entry.action == action]


def _asked_rule(entry: ExpectationConfig) -> RowRule:
    required = in_words(entry.expectation)
    return RowRule(
        entry.expectation,
        entry.label,
        lambda row: f"{entry.label}: {entry.column} {_shown(row[entry.column])}, required {required}",
        required,
        is_asked_for=True,
    )


def in_words(expectation: Expectation) -> str:
    """What an expectation requires: an interval, a set, or its options as they stand."""
    options = expectation.options
    least, most = options.get("min_value"), options.get("max_value")
    if least is not None and most is not None:
        return f"{_shown(least)} to {_shown(most)}"
    if least is not None or most is not None:
        return f"at least {_shown(least)}" if most is None else f"at most {_shown(most)}"
    if "value_set" in options:
        return " or ".join(repr(value) for value in options["value_set"])
    what = expectation.kind.removeprefix("expect_column_values_to_").replace("_", " ")
    return f"to {what}" + "".join(f", {key} {value!r}" for key, value in options.items())


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else repr(value)


def _present(column: str) -> RowRule:
    words = f"no {column}"
    return RowRule(
        Expectation("expect_column_values_to_not_be_null", column), words, lambda _: words, "a value"
    )


def _within(column: str, limits: Range) -> RowRule:
    return RowRule(
        Expectation(
            "expect_column_values_to_be_between", column, {"min_value": limits.min, "max_value": limits.max}
        ),
        f"{column} out of range",
        lambda row: f"{column} {row[column]:g} {_UNITS[column]}, not in {limits.min:g} to {limits.max:g}",
        f"{limits.min:g} to {limits.max:g} {_UNITS[column]}",
    )


def columns_and_types() -> list[TableRule]:
    """List what must hold before any row can be judged."""
    mend = "Run `kedro run --pipelines=ingest` again with this version."
    return [
        *(
            TableRule(
                Expectation("expect_column_to_exist", column), lambda _: "there is no such column", mend
            )
            for column in COLUMNS
        ),
        *(
            TableRule(
                Expectation("expect_column_values_to_be_of_type", column, {"type_": "str"}), _type_seen, mend
            )
            for column in TEXTS
        ),
        *(
            TableRule(
                Expectation("expect_column_values_to_be_in_type_list", column, {"type_list": _NUMBER_TYPES}),
                _type_seen,
                mend,
            )
            for column in (*INTEGERS, *DECIMALS)
        ),
    ]


def _type_seen(result: dict[str, Any]) -> str:
    seen = result.get("observed_value") or ", ".join(map(repr, result.get("partial_unexpected_list", [])[:3]))
    return f"the type is wrong: {seen}"


def rejected_share(config: ValidateConfig) -> TableRule:
    """Limit the files that cannot be read."""
    return TableRule(
        Expectation(READABLE.kind, "status", {"value_set": ["ok"], "mostly": 1 - config.max_rejected_share}),
        lambda result: (
            f"{result['unexpected_percent']:.3g} % of the rows are rejected, "
            f"at most {100 * config.max_rejected_share:.3g} % may be"
        ),
        f"Mend or remove the files that the quarantine names, or raise validate.max_rejected_share {_KEY}.",
    )


def quarantined_share(config: ValidateConfig) -> TableRule:
    """Limit the readable clips that fail an expectation."""
    return TableRule(
        Expectation(
            "expect_column_values_to_be_in_set",
            "kept",
            {"value_set": [True], "mostly": 1 - config.max_quarantined_share},
        ),
        lambda result: (
            f"{result['unexpected_percent']:.3g} % of the readable clips are quarantined, "
            f"at most {100 * config.max_quarantined_share:.3g} % may be"
        ),
        f"The quarantine gives their reasons; mend them, or raise validate.max_quarantined_share {_KEY}.",
    )


def enough(config: ValidateConfig) -> list[TableRule]:
    """List what the clips that are left must be together."""
    return [
        TableRule(
            Expectation("expect_table_row_count_to_be_between", None, {"min_value": config.min_clips}),
            lambda result: (
                f"{result['observed_value']} clips are left, at least {config.min_clips} are needed"
            ),
            f"Add clips, mend those in quarantine, or lower validate.min_clips {_KEY}.",
        ),
        TableRule(
            Expectation(
                "expect_column_distinct_values_to_contain_set", "split", {"value_set": ["train", "heldout"]}
            ),
            lambda result: f"no clip is left in {' and '.join(result['partial_missing_list'])}",
            "Add clips of more sources (all segments of one source share a split), or change "
            "ingest.heldout_share in conf/base/parameters_ingest.yml.",
        ),
    ]
