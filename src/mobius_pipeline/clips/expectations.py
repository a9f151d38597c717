"""What the table of clips must hold: bad rows are quarantined, a bad table stops the run.

Great Expectations skips nulls in every expectation but `not_be_null`, so each column is asked for those too.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field, model_validator

from mobius_pipeline.config import ClipFormat, Config
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import move_folder

log = logging.getLogger(__name__)

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


class ValidateConfig(Config):
    """The section `validate`: the limits that a clip, and the table as a whole, must keep.

    Attributes:
        width: Width of a clip in px.
        height: Height of a clip in px.
        fps: Mean frames a second of a clip.
        duration_s: Length of a clip in seconds.
        max_rejected_share: Largest share of unreadable rows among all rows.
        max_quarantined_share: Largest share of readable clips that may fail an expectation.
        min_clips: Fewest clips that must be left.
    """

    width: Range
    height: Range
    fps: Range
    duration_s: Range
    max_rejected_share: float = Field(ge=0, le=1)
    max_quarantined_share: float = Field(ge=0, le=1)
    min_clips: int = Field(ge=1)


@dataclass(frozen=True, eq=False)
class Expectation:
    """One expectation of Great Expectations by its name in snake case, on `column` or on the whole table."""

    kind: str
    column: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a user reads: the expectation and its column."""
        return f"{self.kind} {self.column}" if self.column else self.kind

    def is_askable(self, table: pd.DataFrame) -> bool:
        """Whether the table has the column; whether it has it can always be asked."""
        return self.column is None or self.kind == "expect_column_to_exist" or self.column in table

    def to_gx(self) -> Any:
        """Return it as Great Expectations' own object."""
        import great_expectations.expectations as gxe

        kwargs = self.options | ({"column": self.column} if self.column else {})
        return getattr(gxe, self.kind.title().replace("_", ""))(**kwargs)


@dataclass(frozen=True)
class RowRule:
    """An expectation on every readable clip: `label` counts the rows that fail it, `says` explains one."""

    expectation: Expectation
    label: str
    says: Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class TableRule:
    """An expectation whose failure stops the run: `sees` says what was found, `mend` what to do."""

    expectation: Expectation
    sees: Callable[[dict[str, Any]], str]
    mend: str


class Outcome(NamedTuple):
    """A result of Great Expectations; `error` is the exception that kept it from being checked, or ""."""

    success: bool
    result: dict[str, Any]
    error: str

    @property
    def rows(self) -> list[int]:
        """The rows that fail.

        Raises:
            MobiusError: If the expectation could not be checked.
        """
        if self.error:
            raise MobiusError(f"An expectation on the table of clips could not be checked: {self.error}")
        return list(self.result.get("unexpected_index_list") or [])


class Validated(NamedTuple):
    """The clips that pass, the rows that do not (with `failed` and `reason`), and the folder of Data Docs."""

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    data_docs: Path


READABLE = Expectation("expect_column_values_to_be_in_set", "status", {"value_set": ["ok"]})
UNIQUE = RowRule(
    Expectation("expect_column_values_to_be_unique", "clip_id"),
    "duplicate",
    lambda row: f"duplicate of {row['first_path']}",
)


def validate_clips(table: pd.DataFrame, config: ValidateConfig, clip: ClipFormat, work: Path) -> Validated:
    """Part the clips that can be trained on from the others, and say why in Data Docs and the quarantine.

    Args:
        table: One row a clip or rejected file, with the columns `COLUMNS` and maybe more.
        config: The limits.
        clip: What the model sees of a clip; shorter clips are quarantined.
        work: Folder under which the Data Docs are made, in `data_docs`.

    Raises:
        MobiusError: If the table as a whole fails, after the Data Docs and a `quarantine.parquet` are written
            under `work`; it names every expectation that failed, what was seen and how to mend it.
    """
    copy = work / "quarantine.parquet"
    copy.unlink(missing_ok=True)
    docs = DataDocs(work)
    problems = _broken(columns_and_types(), docs, "1 columns and types", table)
    if problems:
        raise _stopped(problems, docs.publish(), None)
    manifest, quarantine = split_rows(table, row_rules(config, clip), docs)
    rejected = quarantine["failed"] == READABLE.name
    verdicts = pd.DataFrame({"kept": [True] * len(manifest) + [False] * int((~rejected).sum())})
    problems += _broken([rejected_share(config)], docs, "3 rejected files", table)
    problems += _broken([quarantined_share(config)], docs, "4 quarantined clips", verdicts)
    problems += _broken(enough(config), docs, "5 manifest", manifest)
    folder = docs.publish()
    log.info(closing_line(manifest, quarantine, row_rules(config, clip)))
    if problems:
        quarantine.to_parquet(copy)
        raise _stopped(problems, folder, copy)
    return Validated(manifest.astype(dict.fromkeys(INTEGERS, "int64")), quarantine, folder)


def row_rules(config: ValidateConfig, clip: ClipFormat) -> list[RowRule]:
    """List what every readable clip must keep, but for `UNIQUE`, which is judged among those that do."""
    present = (*(column for column in TEXTS if column != "status"), *INTEGERS, *DECIMALS)
    return [
        *(_present(column) for column in present),
        RowRule(
            Expectation("expect_column_values_to_match_regex", "caption", {"regex": r"\S"}),
            "no caption",
            lambda _: "no caption",
        ),
        RowRule(
            Expectation("expect_column_values_to_be_between", "model_frames", {"min_value": clip.frames}),
            "too short",
            lambda row: f"{row['model_frames']:g} of {clip.frames} frames at {clip.fps:g} fps",
        ),
        *(_within(column, getattr(config, column)) for column in _UNITS),
        RowRule(
            Expectation("expect_column_values_to_be_in_set", "split", {"value_set": ["train", "heldout"]}),
            "unknown split",
            lambda row: f"split {row['split']!r} is neither 'train' nor 'heldout'",
        ),
    ]


def _present(column: str) -> RowRule:
    words = f"no {column}"
    return RowRule(Expectation("expect_column_values_to_not_be_null", column), words, lambda _: words)


def _within(column: str, limits: Range) -> RowRule:
    return RowRule(
        Expectation(
            "expect_column_values_to_be_between", column, {"min_value": limits.min, "max_value": limits.max}
        ),
        f"{column} out of range",
        lambda row: f"{column} {row[column]:g} {_UNITS[column]}, not in {limits.min:g} to {limits.max:g}",
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
            lambda result: (
                f"the splits left are {result['observed_value']}, 'train' and 'heldout' are needed"
            ),
            "Add clips of more sources (all segments of one source share a split), or change "
            "ingest.heldout_share in conf/base/parameters_ingest.yml.",
        ),
    ]


def split_rows(
    table: pd.DataFrame, rules: Sequence[RowRule], docs: "DataDocs"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that pass (counted anew), and the others with `failed` and `reason`."""
    readable = table[table["status"] == "ok"].reset_index(drop=True)
    rejected = table[table["status"] != "ok"].assign(failed=READABLE.name)
    results = docs.check("2 readable clips", readable, [rule.expectation for rule in (*rules, UNIQUE)])
    broken: dict[int, list[RowRule]] = {row: [] for row in readable.index}
    for rule in rules:
        for row in results[rule.expectation].rows:
            broken[row].append(rule)
    first = first_of_each(readable, [bool(rules) for rules in broken.values()])
    for row in results[UNIQUE.expectation].rows:
        if first[row] < row:
            broken[row].append(UNIQUE)
    explained = readable.assign(first_path=readable["path"].loc[first].to_numpy()).to_dict("records")
    bad = [row for row in readable.index if broken[row]]
    failed = [";".join(rule.expectation.name for rule in broken[row]) for row in bad]
    reason = ["; ".join(dict.fromkeys(rule.says(explained[row]) for rule in broken[row])) for row in bad]
    failing = readable.loc[bad].assign(
        reason=pd.Series(reason, index=bad, dtype="str"), failed=pd.Series(failed, index=bad, dtype="str")
    )
    quarantine = failing if rejected.empty else pd.concat([failing, rejected])
    return readable.drop(index=bad).reset_index(drop=True), quarantine.reset_index(drop=True)


def first_of_each(readable: pd.DataFrame, bad: Sequence[bool]) -> list[int]:
    """Return for every row the first row of its `clip_id`, of those that are not bad if there are any."""
    ids = readable["clip_id"]
    order = pd.Series(bad, index=readable.index, dtype=bool).sort_values(kind="stable").index
    first = {clip_id: row for row, clip_id in reversed(list(ids[order].items()))}
    return [first[clip_id] for clip_id in ids]


def closing_line(manifest: pd.DataFrame, quarantine: pd.DataFrame, rules: Sequence[RowRule]) -> str:
    """Say how many clips pass and how many are quarantined for which first reason."""
    labels = {rule.expectation.name: rule.label for rule in (*rules, UNIQUE)} | {READABLE.name: "rejected"}
    counts = quarantine["failed"].str.split(";").str[0].map(labels).value_counts()
    reasons = ", ".join(f"{count} {label}" for label, count in counts.items())
    return f"{len(manifest)} clips pass, {len(quarantine)} quarantined" + (f" ({reasons})" if reasons else "")


def _broken(rules: Sequence[TableRule], docs: "DataDocs", title: str, table: pd.DataFrame) -> list[str]:
    """Check rules on a table and describe those that fail, leaving out types of columns that are missing."""
    asked = [rule for rule in rules if rule.expectation.is_askable(table)]
    results = docs.check(title, table, [rule.expectation for rule in asked])
    failed = [(rule, results[rule.expectation]) for rule in asked if not results[rule.expectation].success]
    return [
        f"{rule.expectation.name}: {found.error or rule.sees(found.result)}. {rule.mend}"
        for rule, found in failed
    ]


def _stopped(problems: Sequence[str], docs: Path, quarantine: Path | None) -> MobiusError:
    files = f"Data Docs: {docs / 'index.html'}" + (f"; quarantine: {quarantine}" if quarantine else "")
    return MobiusError(
        "\n- ".join(["The table of clips does not hold what training needs:", *problems, files])
    )


class DataDocs:
    """A Great Expectations project below `work`, made anew, that checks tables and describes each as HTML."""

    def __init__(self, work: Path) -> None:
        import great_expectations as gx

        self._root = (work / "expectations").absolute()
        self._target = work / "data_docs"
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True)
        self._context = gx.get_context(mode="file", project_root_dir=str(self._root))
        self._context.variables.progress_bars = {"globally": False}
        self._source = self._context.data_sources.add_pandas("tables")

    def check(
        self, title: str, table: pd.DataFrame, expectations: Sequence[Expectation]
    ) -> dict[Expectation, Outcome]:
        """Check a table whose index counts its rows."""
        import great_expectations as gx

        suite = gx.ExpectationSuite(title, expectations=[asked.to_gx() for asked in expectations])
        batch = self._source.add_dataframe_asset(title).add_batch_definition_whole_dataframe("all rows")
        definition = gx.ValidationDefinition(name=title, data=batch, suite=self._context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=title,
            validation_definitions=[self._context.validation_definitions.add(definition)],
            result_format={"result_format": "COMPLETE"},
        )
        run = self._context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table})
        (validation,) = run.run_results.values()
        by_name = {_name_of(found): _outcome(found) for found in validation.results}
        return {asked: by_name[asked.name] for asked in expectations}

    def publish(self) -> Path:
        """Render what was checked, move the HTML under the work folder, drop the rest of the project."""
        self._context.build_data_docs()  # once: an action of each checkpoint would render everything anew
        move_folder(self._root / "gx/uncommitted/data_docs/local_site", self._target)
        shutil.rmtree(self._root)
        return self._target


def _name_of(found: Any) -> str:
    asked = found.expectation_config
    return Expectation(asked.type, asked.kwargs.get("column")).name


def _outcome(found: Any) -> Outcome:
    """Read a result; one that raised names its exception at the top level or once a metric."""
    info = found.exception_info
    raised = [info] if "raised_exception" in info else list(info.values())
    errors = [one["exception_message"] for one in raised if one["raised_exception"]]
    return Outcome(bool(found.success), found.to_json_dict()["result"], "; ".join(errors))
