"""What the table of clips must hold: bad rows are quarantined, a bad table stops the run."""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mobius_pipeline.clips.validate.data_docs import DataDocs, Expectation, map_expectations
from mobius_pipeline.clips.validate.rules import (
    INTEGERS,
    READABLE,
    UNIQUE,
    RowRule,
    TableRule,
    ValidateConfig,
    asked_rules,
    columns_and_types,
    enough,
    quarantined_share,
    rejected_share,
    row_rules,
)
from mobius_pipeline.config import ClipFormat
from mobius_pipeline.errors import MobiusError

_MEND = "Mend or remove them, or change the entry in conf/base/parameters_validate.yml."

log = logging.getLogger(__name__)


class Validated(NamedTuple):
    """The clips that pass, the rows that do not (with `failed` and `reason`), and the folder of Data Docs."""

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    data_docs: Path


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
    check_entries(config, clip, table)
    warnings, stops = (asked_rules(config, action) for action in ("warn", "stop"))
    manifest, quarantine = split_rows(table, row_rules(config, clip), [*warnings, *stops], docs)
    rejected = quarantine["failed"] == READABLE.name
    verdicts = pd.DataFrame({"kept": [True] * len(manifest) + [False] * int((~rejected).sum())})
    problems += _broken([rejected_share(config)], docs, "3 rejected files", table)
    problems += _broken([quarantined_share(config)], docs, "4 quarantined clips", verdicts)
    problems += _broken(enough(config), docs, "5 manifest", manifest)
    folder = docs.publish()
    log.info(closing_line(manifest, quarantine, row_rules(config, clip)))
    for rule in warnings:
        if count := _kept_in_spite_of(rule, manifest):
            log.warning("Kept, though they fail: %d clips (%s).", count, rule.label)
    for rule in stops:
        if count := _kept_in_spite_of(rule, manifest):
            problems.append(
                f"{count} clips: {rule.label}, required {rule.required} (`action: stop`). {_MEND}"
            )
    _warn_of_shares(config, table, quarantine, manifest)
    if problems:
        quarantine.to_parquet(copy)
        raise _stopped(problems, folder, copy)
    return Validated(manifest.astype(dict.fromkeys(INTEGERS, "int64")), quarantine, folder)


def _kept_in_spite_of(rule: RowRule, manifest: pd.DataFrame) -> int:
    return int((~manifest[decision(rule)]).sum())


def _warn_of_shares(
    config: ValidateConfig, table: pd.DataFrame, quarantine: pd.DataFrame, manifest: pd.DataFrame
) -> None:
    """Say aloud that more than usual was left out, though not so much that the run must stop."""
    rejected = int((quarantine["failed"] == READABLE.name).sum())
    failing = len(quarantine) - rejected
    for what, count, of, most in (
        ("of the rows are rejected", rejected, len(table), config.warn_rejected_share),
        (
            "of the readable clips are quarantined",
            failing,
            len(manifest) + failing,
            config.warn_quarantined_share,
        ),
    ):
        if of and count / of > most:
            log.warning("%.3g %% %s, more than %.3g %%.", 100 * count / of, what, 100 * most)


def check_entries(config: ValidateConfig, clip: ClipFormat, table: pd.DataFrame) -> None:
    """Refuse entries of `validate.expectations` that cannot be asked of this table.

    Raises:
        MobiusError: If an expectation, a column or an option is unknown, an entry stands there twice, or it
            asks what is asked already: results are told apart by expectation and column.
    """
    known = map_expectations()
    seen: set[str] = set()
    own = {rule.expectation.name for rule in (*row_rules(config, clip), UNIQUE) if not rule.is_asked_for}
    for entry in config.expectations:
        where = f"validate.expectations: {entry.expectation.name!r}"
        if entry.expect not in known:
            raise MobiusError(f"{where} is no column map expectation.{_near(entry.expect, known)}")
        if entry.column not in table:
            raise MobiusError(f"{where}: there is no such column.{_near(entry.column, list(table.columns))}")
        if entry.expectation.name in own:
            raise MobiusError(
                f"{where} is asked of every clip already. Use its own limit under `validate`, if it has one, "
                "or another expectation."
            )
        if "mostly" in entry.expectation.options:
            raise MobiusError(f"{where} takes no `mostly`: each clip is judged alone. Use the shares.")
        if entry.expectation.name in seen:
            raise MobiusError(f"{where} stands there twice. Put both limits into one entry.")
        seen.add(entry.expectation.name)
        try:
            entry.expectation.to_gx()
        except ValueError as error:
            raise MobiusError(f"{where} has options that it does not take: {error}") from error


def _near(name: str, known: Sequence[str]) -> str:
    alike = get_close_matches(name, known, 3)
    return f" Did you mean {' or '.join(alike)}?" if alike else ""


def decision(rule: RowRule) -> str:
    """The column that says whether a clip keeps an entry of `validate.expectations`."""
    what = rule.expectation.kind.removeprefix("expect_column_values_to_").removeprefix("be_")
    return f"keeps_{rule.expectation.column}_{what}"


def split_rows(
    table: pd.DataFrame, rules: Sequence[RowRule], warnings: Sequence[RowRule], docs: DataDocs
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that pass (counted anew), and the others with `failed`, `failures` and `reason`.

    Both carry a column for each entry of `validate.expectations`, whether the clip keeps it.
    """
    readable = table[table["status"] == "ok"].reset_index(drop=True)
    rejected = table[table["status"] != "ok"]
    unread = [[_failure(READABLE, "status", reason, "a readable file")] for reason in rejected["reason"]]
    rejected = rejected.assign(
        failed=READABLE.name, failures=pd.Series(unread, index=rejected.index, dtype="object")
    )
    asked = [rule.expectation for rule in (*rules, *warnings, UNIQUE)]
    results = docs.check("2 readable clips", readable, asked)
    for rule in (*rules, *warnings):
        if rule.is_asked_for:
            fails = readable.index.isin(results[rule.expectation].rows)
            readable = readable.assign(**{decision(rule): ~fails})
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
    failures = [[_failed(rule, explained[row]) for rule in broken[row]] for row in bad]
    failing = readable.loc[bad].assign(
        reason=pd.Series(reason, index=bad, dtype="str"),
        failed=pd.Series(failed, index=bad, dtype="str"),
        failures=pd.Series(failures, index=bad, dtype="object"),
    )
    quarantine = failing if rejected.empty else pd.concat([failing, rejected])
    return readable.drop(index=bad).reset_index(drop=True), quarantine.reset_index(drop=True)


def _failed(rule: RowRule, row: dict[str, Any]) -> dict[str, str]:
    column = rule.expectation.column or ""
    return _failure(rule.expectation, column, str(row[column]), rule.required)


def _failure(expectation: Expectation, column: str, observed: str, required: str) -> dict[str, str]:
    return {"expectation": expectation.kind, "column": column, "observed": observed, "required": required}


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


def _broken(rules: Sequence[TableRule], docs: DataDocs, title: str, table: pd.DataFrame) -> list[str]:
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
