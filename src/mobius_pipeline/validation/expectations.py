"""What the table of clips must hold: bad rows are quarantined, a bad table stops the run."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.scratch import scratch
from mobius_pipeline.validation.data_docs import (
    ABOUT_NULLS,
    DataDocs,
    Expectation,
    Outcome,
)
from mobius_pipeline.validation.heldout import hold_out
from mobius_pipeline.validation.near_duplicates import first_alike
from mobius_pipeline.validation.rules import (
    INTEGERS,
    NEAR_DUPLICATE,
    READABLE,
    UNIQUE,
    UNREADABLE,
    RowRule,
    TableRule,
    ValidateConfig,
    asked_of_manifest,
    asked_rules,
    columns_and_types,
    enough,
    quarantined_share,
    rejected_share,
    row_rules,
)
from mobius_pipeline.validation.user_expectations import MEND, check_columns, decision, shown

log = logging.getLogger(__name__)


class Validated(NamedTuple):
    """The clips that pass, the rows that do not (with `failed` and `reason`), and the folder of Data Docs."""

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    data_docs: Path


def validate_clips(
    table: pd.DataFrame,
    config: ValidateConfig,
    clip: ClipFormat,
    work: Path,
    trained: Collection[str] = (),
) -> Validated:
    """Part the clips that can be trained on from the others, and say why in Data Docs and the quarantine.

    Args:
        table: One row a clip or rejected file, with the columns `COLUMNS` and maybe more.
        config: The limits.
        clip: What the model sees of a clip; shorter clips are quarantined.
        work: Folder under which the Data Docs are made, in `data_docs`.
        trained: Sources and groups that are never held out for want of others (see `hold_out`).

    Raises:
        MobiusError: If the table as a whole fails, after the Data Docs and a `quarantine.parquet` are written
            under `work`; it names every expectation that failed, what was seen and how to mend it.
    """
    copy = work / "quarantine.parquet"
    copy.unlink(missing_ok=True)
    with scratch(work / "expectations") as root:
        return _validated(table, config, clip, DataDocs(root, work, config.history), copy, trained)


def _validated(
    table: pd.DataFrame,
    config: ValidateConfig,
    clip: ClipFormat,
    docs: DataDocs,
    copy: Path,
    trained: Collection[str],
) -> Validated:
    """See `validate_clips`; if the table fails, its quarantine is written to `copy`."""
    problems = _broken(columns_and_types(), docs, "1 columns and types", table)[0]
    if problems:
        raise _stopped(problems, docs.publish(), None)
    _check_columns(config, clip, table)
    warnings, stops = (asked_rules(config, action) for action in ("warn", "stop"))
    rules = row_rules(config, clip)
    manifest, quarantine = split_rows(table, rules, [*warnings, *stops], docs, config.near_duplicate_bits)
    manifest = hold_out(manifest, trained)
    problems += _broken([rejected_share(config)], docs, "3 rejected files", table)[0]
    verdicts = _verdicts(manifest, quarantine)
    problems += _broken([quarantined_share(config)], docs, "4 quarantined clips", verdicts)[0]
    of_manifest, told = _broken([*enough(config), *asked_of_manifest(config)], docs, "5 manifest", manifest)
    problems += of_manifest
    folder = docs.publish()
    log.info(closing_line(manifest, quarantine, rules))
    for warning in told:
        log.warning(warning)
    for rule in warnings:
        if count := _kept_in_spite_of(rule, manifest):
            log.warning("Kept, though they fail: %d clips (%s).", count, rule.label)
    for rule in stops:
        if count := _kept_in_spite_of(rule, manifest):
            problems.append(f"{count} clips: {rule.label}, required {rule.required} (`action: stop`). {MEND}")
    _warn_of_shares(config, table, quarantine, manifest)
    if problems:
        quarantine.to_parquet(copy)
        raise _stopped(problems, folder, copy)
    return Validated(manifest.astype(dict.fromkeys(INTEGERS, "int64")), quarantine, folder)


def _verdicts(manifest: pd.DataFrame, quarantine: pd.DataFrame) -> pd.DataFrame:
    """Of each readable clip whether it is kept, or why not."""
    failing = quarantine[quarantine["failed"] != READABLE.name]
    parts = {True: manifest, False: failing}
    told = [rows[["path", "reason"]].assign(kept=kept) for kept, rows in parts.items()]
    return pd.concat(told, ignore_index=True)


def _kept_in_spite_of(rule: RowRule, manifest: pd.DataFrame) -> int:
    return int((~manifest[decision(rule.expectation)]).sum())


def _check_columns(config: ValidateConfig, clip: ClipFormat, table: pd.DataFrame) -> None:
    own = (*row_rules(config, clip), UNIQUE, NEAR_DUPLICATE)
    of_clips = {rule.expectation.name for rule in own if not rule.is_asked_for}
    check_columns("expectations", config.expectations, table, of_clips)
    of_manifest = {rule.expectation.name for rule in enough(config)}
    check_columns("table_expectations", config.table_expectations, table, of_manifest)


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


def split_rows(
    table: pd.DataFrame,
    rules: Sequence[RowRule],
    warnings: Sequence[RowRule],
    docs: DataDocs,
    near_duplicate_bits: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that pass (counted anew), and the others with `failed`, `failures` and `reason`.

    Both carry a column for each entry of `validate.expectations`, whether the clip keeps it, and
    `duplicate_of`, the earlier clip that looks nearly the same, of clips that keep all else; those that pass
    carry as `warnings` what they fail in spite of that, as `failures` are.
    """
    readable = table[table["status"] == "ok"].reset_index(drop=True)
    results = docs.check(
        "2 readable clips", readable, [one.expectation for one in (*rules, *warnings, UNIQUE)]
    )
    fails = {rule: _failing_rows(rule, readable, results[rule.expectation]) for rule in (*rules, *warnings)}
    kept = {
        decision(rule.expectation): ~readable.index.isin(rows)
        for rule, rows in fails.items()
        if rule.is_asked_for
    }
    readable = readable.assign(**kept)
    broken = _by_row(readable, {rule: fails[rule] for rule in rules})
    first = first_of_each(readable, [bool(rules) for rules in broken])
    for row in results[UNIQUE.expectation].rows:
        if first[row] < row:
            broken[row].append(UNIQUE)
    good = [row for row in readable.index if not broken[row]]
    readable = readable.assign(duplicate_of=_near_duplicates(readable, good, near_duplicate_bits))
    if near_duplicate_bits is not None:
        candidates = readable.loc[good].reset_index(drop=True)
        asked = NEAR_DUPLICATE.expectation
        for place in docs.check("2b near-duplicates", candidates, [asked])[asked].rows:
            broken[good[place]].append(NEAR_DUPLICATE)
    explained = readable.assign(first_path=readable["path"].loc[first].to_numpy()).to_dict("records")
    bad = [row for row in readable.index if broken[row]]
    warned = _by_row(readable, {rule: fails[rule] for rule in warnings})
    told = [[_failed(rule, explained[row]) for rule in warned[row]] for row in readable.index]
    manifest = readable.assign(warnings=pd.Series(told, index=readable.index, dtype="object")).drop(index=bad)
    quarantine = _explained(readable.loc[bad], [broken[row] for row in bad], [explained[row] for row in bad])
    rejected = _rejected(table[table["status"] != "ok"])
    both = quarantine if rejected.empty else pd.concat([quarantine, rejected])
    return manifest.reset_index(drop=True), both.reset_index(drop=True)


def _near_duplicates(readable: pd.DataFrame, good: list[int], bits: int | None) -> Any:
    """For each good row the path of the earlier one that it looks like, or ""; for the others ""."""
    found = [""] * len(readable)
    if bits is not None:
        first = first_alike(readable["likeness"].iloc[good].tolist(), bits)
        for row, kept in zip(good, first, strict=True):
            if good[kept] != row:
                found[row] = readable["path"].iloc[good[kept]]
    return _texts(found)


def _failing_rows(rule: RowRule, readable: pd.DataFrame, outcome: Outcome) -> list[int]:
    """Great Expectations skips what is null; a clip without a value does not keep an entry."""
    column = rule.expectation.column
    if not rule.is_asked_for or rule.expectation.kind in ABOUT_NULLS or column is None:
        return outcome.rows
    return sorted({*outcome.rows, *readable.index[readable[column].isna()]})


def _by_row(readable: pd.DataFrame, fails: Mapping[RowRule, Sequence[int]]) -> list[list[RowRule]]:
    """For each row the rules that it fails, in their order."""
    broken: list[list[RowRule]] = [[] for _ in readable.index]
    for rule, rows in fails.items():
        for row in rows:
            broken[row].append(rule)
    return broken


def _explained(
    failing: pd.DataFrame, broken: Sequence[Sequence[RowRule]], rows: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    both = list(zip(broken, rows, strict=True))
    return failing.assign(
        reason=_texts("; ".join(dict.fromkeys(rule.says(row) for rule in rules)) for rules, row in both),
        failed=_texts(";".join(rule.expectation.name for rule in rules) for rules in broken),
        failures=pd.Series(
            [[_failed(rule, row) for rule in rules] for rules, row in both], dtype="object"
        ).array,
    )


def _texts(texts: Iterable[str]) -> Any:
    return pd.array(list(texts), dtype="str")


def _rejected(rejected: pd.DataFrame) -> pd.DataFrame:
    unread = [[_failure(READABLE, UNREADABLE, reason, "a readable file")] for reason in rejected["reason"]]
    return rejected.assign(
        duplicate_of="",
        failed=READABLE.name,
        failures=pd.Series(unread, index=rejected.index, dtype="object"),
    )


def _failed(rule: RowRule, row: dict[str, Any]) -> dict[str, str]:
    observed = row[rule.shows or rule.expectation.column or ""]
    words = observed if isinstance(observed, str) else shown(observed)
    return _failure(rule.expectation, rule.label, words, rule.required)


def _failure(expectation: Expectation, label: str, observed: str, required: str) -> dict[str, str]:
    return {
        "expectation": expectation.kind,
        "column": expectation.column or "",
        "label": label,
        "observed": observed,
        "required": required,
    }


def first_of_each(readable: pd.DataFrame, bad: Sequence[bool]) -> list[int]:
    """Return for every row the first row of its `clip_id`, of those that are not bad if there are any."""
    ids = readable["clip_id"]
    order = pd.Series(bad, index=readable.index, dtype=bool).sort_values(kind="stable").index
    first = {clip_id: row for row, clip_id in reversed(list(ids[order].items()))}
    return [first[clip_id] for clip_id in ids]


def closing_line(manifest: pd.DataFrame, quarantine: pd.DataFrame, rules: Sequence[RowRule]) -> str:
    """Say how many clips pass and how many are quarantined for which first reason."""
    own = {READABLE.name: UNREADABLE}
    labels = own | {rule.expectation.name: rule.label for rule in (*rules, UNIQUE, NEAR_DUPLICATE)}
    counts = quarantine["failed"].str.split(";").str[0].map(labels).value_counts()
    reasons = ", ".join(f"{count} {label}" for label, count in counts.items())
    return f"{len(manifest)} clips pass, {len(quarantine)} quarantined" + (f" ({reasons})" if reasons else "")


def _broken(
    rules: Sequence[TableRule], docs: DataDocs, title: str, table: pd.DataFrame
) -> tuple[list[str], list[str]]:
    """Check rules on a table and describe those that fail: those that stop the run, and those that warn.

    Types of columns that are missing are left out.
    """
    asked = [rule for rule in rules if rule.expectation.is_askable(table)]
    results = docs.check(title, table, [rule.expectation for rule in asked])
    stops: list[str] = []
    warns: list[str] = []
    for rule in asked:
        found = results[rule.expectation]
        if not found.success:
            line = f"{rule.expectation.name}: {found.error or rule.sees(found.result)}. {rule.mend}"
            (warns if rule.only_warns else stops).append(line)
    return stops, warns


def _stopped(problems: Sequence[str], docs: Path, quarantine: Path | None) -> MobiusError:
    files = f"Data Docs: {docs / 'index.html'}" + (f"; quarantine: {quarantine}" if quarantine else "")
    return MobiusError(
        "\n- ".join(["The table of clips does not hold what training needs:", *problems, files])
    )
