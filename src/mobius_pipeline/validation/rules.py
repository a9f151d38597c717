"""The rules that clips, and their table as a whole, must keep.

Great Expectations skips nulls in every expectation but `not_be_null`, so each column is asked for those too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.config import Config
from mobius_pipeline.validation.data_docs import Expectation, expectations_known
from mobius_pipeline.validation.user_expectations import (
    MEND,
    ClipEntry,
    TableEntry,
    check_entries,
    in_words,
    shown,
)

TEXTS = ("clip_id", "source_sha256", "path", "caption", "split", "status")
INTEGERS = ("start_frame", "end_frame", "frames", "model_frames", "width", "height", "bytes")
DECIMALS = ("fps", "duration_s")
COLUMNS = (*TEXTS, *INTEGERS, *DECIMALS, "container", "codec", "reason")
# A column of integers is read as decimals where rejected rows leave it empty.
_NUMBER_TYPES = ["int64", "Int64", "Int64Dtype", "int32", "uint32", "uint64", "float64", "Float64Dtype"]
_UNITS = {"width": "px", "height": "px", "fps": "frames a second", "duration_s": "s"}
_KEY = "in conf/base/parameters_validate.yml (or your environment's)"


class Range(Config):
    """An interval with both its ends; a lower one that is null is given by `clip`, an upper one is open."""

    min: float | None
    max: float | None

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; swap them")
        return self


class ValidateConfig(Config):
    """The section `validate`: the limits that a clip, and the table as a whole, must keep.

    Attributes:
        width: Width of a clip in px; `min: null` is the smallest width that the model sees.
        height: Height of a clip in px; likewise.
        fps: Mean frames a second of a clip; `min: null` is the model's own rate: slower clips repeat frames.
        duration_s: Length of a clip in seconds; `min: null` is that of the shortest clip that the model sees.
        expectations: What else every readable clip must keep.
        table_expectations: What else the clips that are left must be together.
        near_duplicate_bits: Of 192, in which the perceptual hashes of two near-duplicates differ at most;
            null looks for none.
        history: Runs that Data Docs show.
        warn_rejected_share: Above it a warning says so; `warn_quarantined_share` likewise.
        max_rejected_share: Largest share of unreadable rows among all rows.
        max_quarantined_share: Largest share of readable clips that may fail an expectation.
        min_clips: Fewest clips that must be left.
    """

    width: Range
    height: Range
    fps: Range
    duration_s: Range
    expectations: tuple[ClipEntry, ...] = ()
    table_expectations: tuple[TableEntry, ...] = ()
    near_duplicate_bits: int | None = Field(default=None, ge=0, le=48)
    history: int = Field(ge=1)
    warn_rejected_share: float = Field(ge=0, le=1)
    max_rejected_share: float = Field(ge=0, le=1)
    warn_quarantined_share: float = Field(ge=0, le=1)
    max_quarantined_share: float = Field(ge=0, le=1)
    min_clips: int = Field(ge=1)

    @model_validator(mode="after")
    def _entries_can_be_asked(self) -> Self:
        # Here, so that a slip of the pen is told before clips are decoded for hours.
        of_values, of_tables = expectations_known()
        check_entries("expectations", self.expectations, of_values)
        check_entries("table_expectations", self.table_expectations, of_tables)
        return self


@dataclass(frozen=True)
class RowRule:
    """An expectation on every readable clip.

    Attributes:
        expectation: What is asked.
        label: Counts the rows that fail it.
        says: Explains one of them.
        required: What a value must be, in words.
        shows: The column whose value is told as observed, if it is not the expectation's own.
        is_asked_for: Whether it is an entry of `validate.expectations`; the others are the code's own.
    """

    expectation: Expectation
    label: str
    says: Callable[[dict[str, Any]], str]
    required: str
    shows: str | None = None
    is_asked_for: bool = False


@dataclass(frozen=True)
class TableRule:
    """An expectation on a table: `sees` says what was found, `mend` what to do; its failure stops the run."""

    expectation: Expectation
    sees: Callable[[dict[str, Any]], str]
    mend: str
    only_warns: bool = False


READABLE = Expectation("expect_column_values_to_be_in_set", "status", {"value_set": ["ok"]})
UNREADABLE = "rejected"  # what those that fail it are called
UNIQUE = RowRule(
    Expectation("expect_column_values_to_be_unique", "clip_id"),
    "duplicate",
    lambda row: f"duplicate of {row['first_path']}",
    "each clip once",
    shows="first_path",
)
NEAR_DUPLICATE = RowRule(
    Expectation("expect_column_values_to_be_in_set", "duplicate_of", {"value_set": [""]}),
    "near-duplicate",
    lambda row: f"looks nearly the same as {row['duplicate_of']}",
    "no earlier clip that looks nearly the same",
)


def row_rules(config: ValidateConfig, clip: ClipFormat) -> list[RowRule]:
    """List what every readable clip must keep, but for what is judged among those that do.

    Those are `UNIQUE` and `NEAR_DUPLICATE`: no clip is left out for the sake of one that is left out too.
    """
    shortest, least = min(size.frames for size in clip.sizes), _least(clip)
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
        *(_within(column, getattr(config, column), least[column]) for column in _UNITS),
        RowRule(
            Expectation("expect_column_values_to_be_in_set", "split", {"value_set": ["train", "heldout"]}),
            "unknown split",
            lambda row: f"split {row['split']!r} is neither 'train' nor 'heldout'",
            "train or heldout",
        ),
        *asked_rules(config, "quarantine"),
    ]


def _least(clip: ClipFormat) -> dict[str, float]:
    """What the model asks of a clip, in the units of the columns."""
    return {
        "width": min(size.width for size in clip.sizes),
        "height": min(size.height for size in clip.sizes),
        "fps": clip.rate,
        "duration_s": round(min(size.frames for size in clip.sizes) / clip.rate, 6),
    }


def asked_rules(config: ValidateConfig, action: str) -> list[RowRule]:
    """The rules of the entries of `validate.expectations` with that action."""
    return [_asked_rule(entry) for entry in config.expectations if entry.action == action]


def _asked_rule(entry: ClipEntry) -> RowRule:
    required = in_words(entry.expectation)
    return RowRule(
        entry.expectation,
        entry.label,
        lambda row: f"{entry.label}: {entry.column} {shown(row[entry.column])}, required {required}",
        required,
        is_asked_for=True,
    )


def _present(column: str) -> RowRule:
    words = f"no {column}"
    return RowRule(
        Expectation("expect_column_values_to_not_be_null", column), words, lambda _: words, "a value"
    )


def _within(column: str, limits: Range, least: float) -> RowRule:
    between = {"min_value": least if limits.min is None else limits.min, "max_value": limits.max}
    expectation = Expectation("expect_column_values_to_be_between", column, between)
    required = f"{in_words(expectation)} {_UNITS[column]}"
    return RowRule(
        expectation,
        f"{column} out of range",
        lambda row: f"{column} {row[column]:g} {_UNITS[column]}, required {required}",
        required,
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
            "ingest.heldout_share in conf/base/parameters_ingest.yml. What the manifest before this one "
            "trained on is never held out; if nothing was trained yet, delete that manifest.",
        ),
    ]


def asked_of_manifest(config: ValidateConfig) -> list[TableRule]:
    """The rules of the entries of `validate.table_expectations`."""
    return [
        TableRule(
            entry.expectation,
            lambda result, entry=entry: (  # type: ignore[misc]
                f"{entry.label}: {shown(result.get('observed_value'))}, "
                f"required {in_words(entry.expectation)}"
            ),
            MEND,
            only_warns=entry.action == "warn",
        )
        for entry in config.table_expectations
    ]
