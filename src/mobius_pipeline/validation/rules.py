"""Define the rules for clips and tables of clips; most follow from the clip table's schema and the limits.

Great Expectations skips nulls in all expectations except `not_be_null`, so required columns are also checked
for nulls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from mobius_pipeline.ingest.schema import CLIP_COLUMNS, OK, unit_of
from mobius_pipeline.ingest.split import SPLITS
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.validation.config import Range, ValidateConfig
from mobius_pipeline.validation.expectation import Expectation
from mobius_pipeline.validation.user_expectations import REMEDY, ClipEntry, as_text, in_words


def _required(*kinds: pa.DataType) -> tuple[str, ...]:
    return tuple(field.name for field in CLIP_COLUMNS if not field.nullable and field.type in kinds)


TEXTS, INTEGERS = _required(pa.string()), _required(pa.int64())
NUMBERS = _required(pa.int64(), pa.float64())
# A column of integers is read as floats if rejected rows leave it empty.
_NUMBER_TYPES = ["int64", "Int64", "Int64Dtype", "int32", "uint32", "uint64", "float64", "Float64Dtype"]
_LIMITED = ("width", "height", "fps", "duration_s")
_KEY = "in conf/base/parameters_validate.yml (or your environment's)"

Action = Literal["quarantine", "warn", "stop"]


@dataclass(frozen=True, eq=False)
class Rule:
    """An expectation, and what is reported and done if it fails.

    Attributes:
        expectation: What is checked.
        explain: Returns the reason for a failure: from the row of the clip for a rule for clips, from the
            result of Great Expectations for a rule for a table.
        label: Name of the failing clips in the log and the report.
        required: The required value in words.
        action: Whether a failing clip is quarantined, or kept with a warning, or stops the run.
        remedy: What to do if a table fails.
        observed: The column to report as the observed value; None for the expectation's column.
        is_users: Whether it is an entry of `validate.expectations` rather than a built-in rule.
    """

    expectation: Expectation
    explain: Callable[[dict[str, Any]], str]
    label: str = ""
    required: str = ""
    action: Action = "quarantine"
    remedy: str = ""
    observed: str | None = None
    is_users: bool = False

    @property
    def name(self) -> str:
        """Name of the rule: the expectation and its column."""
        return self.expectation.name


READABLE = Rule(
    Expectation("expect_column_values_to_be_in_set", "status", {"value_set": [OK]}),
    lambda row: str(row["reason"]),
    label="rejected",
    required="a readable file",
    observed="reason",
)
UNIQUE = Rule(
    Expectation("expect_column_values_to_be_unique", "clip_id"),
    lambda row: f"duplicate of {row['first_path']}",
    label="duplicate",
    required="each clip once",
    observed="first_path",
)
NEAR_DUPLICATE = Rule(
    Expectation("expect_column_values_to_be_in_set", "duplicate_of", {"value_set": [""]}),
    lambda row: f"looks nearly the same as {row['duplicate_of']}",
    label="near-duplicate",
    required="no earlier clip that looks nearly the same",
)


def row_rules(config: ValidateConfig, clip: ClipFormat) -> list[Rule]:
    """Return the rules for each readable clip, without `UNIQUE` and `NEAR_DUPLICATE`.

    Duplicates are checked afterwards among the clips that pass, so that no clip is left out because of
    another that is left out itself.
    """
    shortest, least = min(size.frames for size in clip.sizes), _least(clip)
    present = (*(column for column in TEXTS if column != "status"), *NUMBERS)
    return [
        *(_present(column) for column in present),
        Rule(
            Expectation("expect_column_values_to_match_regex", "caption", {"regex": r"\S"}),
            lambda _: "no caption",
            label="no caption",
            required="a caption",
        ),
        Rule(
            Expectation("expect_column_values_to_be_between", "model_frames", {"min_value": shortest}),
            lambda row: f"{row['model_frames']:g} of {shortest} frames at {clip.rate:g} fps",
            label="too short",
            required=f"at least {shortest} frames at {clip.rate:g} fps",
        ),
        *(_within(column, getattr(config, column), least[column]) for column in _LIMITED),
        Rule(
            Expectation("expect_column_values_to_be_in_set", "split", {"value_set": list(SPLITS)}),
            lambda row: f"split {row['split']!r} is not {' or '.join(SPLITS)}",
            label="unknown split",
            required=" or ".join(SPLITS),
        ),
        *users_rules(config, "quarantine"),
    ]


def _least(clip: ClipFormat) -> dict[str, float]:
    """Return the smallest values that the model can use, in the units of the columns."""
    return {
        "width": min(size.width for size in clip.sizes),
        "height": min(size.height for size in clip.sizes),
        "fps": clip.rate,
        "duration_s": round(min(size.frames for size in clip.sizes) / clip.rate, 6),
    }


def users_rules(config: ValidateConfig, action: Action) -> list[Rule]:
    """Return the rules of the entries of `validate.expectations` with this action."""
    return [_users_rule(entry) for entry in config.expectations if entry.action == action]


def _users_rule(entry: ClipEntry) -> Rule:
    required = in_words(entry.expectation)
    return Rule(
        entry.expectation,
        lambda row: f"{entry.label}: {entry.column} {as_text(row[entry.column])}, required {required}",
        label=entry.label,
        required=required,
        action=entry.action,
        is_users=True,
    )


def _present(column: str) -> Rule:
    words = f"no {column}"
    expectation = Expectation("expect_column_values_to_not_be_null", column)
    return Rule(expectation, lambda _: words, label=words, required="a value")


def _within(column: str, limits: Range, least: float) -> Rule:
    between = {"min_value": least if limits.min is None else limits.min, "max_value": limits.max}
    expectation = Expectation("expect_column_values_to_be_between", column, between)
    unit = unit_of(column)
    required = f"{in_words(expectation)} {unit}"
    return Rule(
        expectation,
        lambda row: f"{column} {row[column]:g} {unit}, required {required}",
        label=f"{column} out of range",
        required=required,
    )


def columns_and_types() -> list[Rule]:
    """Return the rules of the clip table's schema, which must hold before rows can be checked."""
    texts = (Expectation("expect_column_values_to_be_of_type", name, {"type_": "str"}) for name in TEXTS)
    types = {"type_list": _NUMBER_TYPES}
    numbers = (Expectation("expect_column_values_to_be_in_type_list", name, types) for name in NUMBERS)
    exist = (Expectation("expect_column_to_exist", name) for name in CLIP_COLUMNS.names)
    return [
        *(_of_schema(expectation, lambda _: "there is no such column") for expectation in exist),
        *(_of_schema(expectation, _found_type) for expectation in (*texts, *numbers)),
    ]


def _of_schema(expectation: Expectation, explain: Callable[[dict[str, Any]], str]) -> Rule:
    remedy = "Run `kedro run --pipelines=ingest` again with this version."
    return Rule(expectation, explain, action="stop", remedy=remedy)


def _found_type(result: dict[str, Any]) -> str:
    found = result.get("observed_value") or ", ".join(
        map(repr, result.get("partial_unexpected_list", [])[:3])
    )
    return f"the type is wrong: {found}"


def rejected_share(config: ValidateConfig) -> Rule:
    """Return the rule that limits the share of files that cannot be read."""
    most = config.max_rejected_share
    return Rule(
        Expectation(READABLE.expectation.kind, "status", {"value_set": [OK], "mostly": 1 - most}),
        lambda result: (
            f"{result['unexpected_percent']:.3g} % of the rows are rejected, "
            f"at most {100 * most:.3g} % are allowed"
        ),
        action="stop",
        remedy="Repair or remove the files that the quarantine names, or raise validate.max_rejected_share "
        f"{_KEY}.",
    )


def quarantined_share(config: ValidateConfig) -> Rule:
    """Return the rule that limits the share of readable clips that fail a rule."""
    most = config.max_quarantined_share
    kept = {"value_set": [True], "mostly": 1 - most}
    return Rule(
        Expectation("expect_column_values_to_be_in_set", "kept", kept),
        lambda result: (
            f"{result['unexpected_percent']:.3g} % of the readable clips are quarantined, "
            f"at most {100 * most:.3g} % are allowed"
        ),
        action="stop",
        remedy="The quarantine gives the reasons; repair the clips, or raise validate.max_quarantined_share "
        f"{_KEY}.",
    )


def enough(config: ValidateConfig) -> list[Rule]:
    """Return the built-in rules for the manifest."""
    least, both = {"min_value": config.min_clips}, {"value_set": list(SPLITS)}
    return [
        Rule(
            Expectation("expect_table_row_count_to_be_between", None, least),
            lambda result: (
                f"{result['observed_value']} clips are left, at least {config.min_clips} are needed"
            ),
            action="stop",
            remedy=f"Add clips, repair those in quarantine, or lower validate.min_clips {_KEY}.",
        ),
        Rule(
            Expectation("expect_column_distinct_values_to_contain_set", "split", both),
            lambda result: f"no clip is left in {' and '.join(result['partial_missing_list'])}",
            action="stop",
            remedy="Add clips of more sources (all segments of one source share a split), or change "
            "ingest.heldout_share in conf/base/parameters_ingest.yml. Clips that the previous manifest "
            "assigned to training are never held out; if nothing was trained yet, delete that manifest.",
        ),
    ]


def users_table_rules(config: ValidateConfig) -> list[Rule]:
    """Return the rules of the entries of `validate.table_expectations`."""
    return [
        Rule(
            entry.expectation,
            lambda result, entry=entry: (  # type: ignore[misc]
                f"{entry.label}: {as_text(result.get('observed_value'))}, "
                f"required {in_words(entry.expectation)}"
            ),
            action=entry.action,
            remedy=REMEDY,
            is_users=True,
        )
        for entry in config.table_expectations
    ]
