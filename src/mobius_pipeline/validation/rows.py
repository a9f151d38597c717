"""Split readable clips by the rules for clips, and explain why each of the others fails."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mobius_pipeline.ingest.schema import OK
from mobius_pipeline.validation.checker import Checker, Outcome
from mobius_pipeline.validation.near_duplicates import first_alike
from mobius_pipeline.validation.rules import NEAR_DUPLICATE, READABLE, UNIQUE, Rule
from mobius_pipeline.validation.user_expectations import as_text, decision

_ABOUT_NULLS = ("expect_column_values_to_be_null", "expect_column_values_to_not_be_null")
Failed = list[list[Rule]]  # for each row, the rules that it fails, in their order


def split_rows(
    table: pd.DataFrame,
    rules: Sequence[Rule],
    warnings: Sequence[Rule],
    checker: Checker,
    near_duplicate_bits: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that pass, with a new index, and the others with `failed`, `failures` and `reason`.

    Both have one column with the result of each entry of `validate.expectations`, and `duplicate_of`: the
    earlier clip that looks nearly the same, for clips that pass all other rules. Rows that pass have
    `warnings`: the failed entries that do not quarantine, in the format of `failures`.
    """
    readable = table[table["status"] == OK].reset_index(drop=True)
    outcomes = checker.check("2 readable clips", readable, (*rules, *warnings, UNIQUE))
    fails = {rule: _failing_rows(rule, readable, outcomes[rule]) for rule in (*rules, *warnings)}
    readable = readable.assign(**_decisions(readable, fails))
    failed = _by_row(readable, {rule: fails[rule] for rule in rules})
    readable = _mark_duplicates(readable, failed, outcomes[UNIQUE])
    readable = _mark_near_duplicates(readable, failed, checker, near_duplicate_bits)
    warned = _by_row(readable, {rule: fails[rule] for rule in warnings})
    bad = [row for row in readable.index if failed[row]]
    manifest = readable.assign(warnings=_failures(readable, warned)).drop(index=bad)
    quarantine = _explained(readable.loc[bad], [failed[row] for row in bad])
    rejected = _rejected(table[table["status"] != OK])
    both = quarantine if rejected.empty else pd.concat([quarantine, rejected])
    return _as_stored(manifest), _as_stored(both)


def _as_stored(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns="first_path").reset_index(drop=True)


def _failing_rows(rule: Rule, readable: pd.DataFrame, outcome: Outcome) -> list[int]:
    """Return the rows that fail a rule. Great Expectations skips nulls; here they fail entries of users."""
    column = rule.expectation.column
    if not rule.is_users or rule.expectation.kind in _ABOUT_NULLS or column is None:
        return outcome.rows
    return sorted({*outcome.rows, *readable.index[readable[column].isna()]})


def _decisions(readable: pd.DataFrame, fails: Mapping[Rule, Sequence[int]]) -> dict[str, Any]:
    """Return a column for each entry of the user: whether each row passes it."""
    users = {rule: rows for rule, rows in fails.items() if rule.is_users}
    return {decision(rule.expectation): ~readable.index.isin(rows) for rule, rows in users.items()}


def _by_row(readable: pd.DataFrame, fails: Mapping[Rule, Sequence[int]]) -> Failed:
    failed: Failed = [[] for _ in readable.index]
    for rule, rows in fails.items():
        for row in rows:
            failed[row].append(rule)
    return failed


def _mark_duplicates(readable: pd.DataFrame, failed: Failed, outcome: Outcome) -> pd.DataFrame:
    """Add `UNIQUE` to the failures of later copies, and the path of the first copy as `first_path`."""
    first = first_of_each(readable, [bool(rules) for rules in failed])
    for row in outcome.rows:
        if first[row] < row:
            failed[row].append(UNIQUE)
    return readable.assign(first_path=readable["path"].loc[first].to_numpy())


def first_of_each(readable: pd.DataFrame, bad: Sequence[bool]) -> list[int]:
    """Return for every row the first row with its `clip_id`, preferably one that is not bad."""
    ids = readable["clip_id"]
    order = pd.Series(bad, index=readable.index, dtype=bool).sort_values(kind="stable").index
    first = {clip_id: row for row, clip_id in reversed(list(ids[order].items()))}
    return [first[clip_id] for clip_id in ids]


def _mark_near_duplicates(
    readable: pd.DataFrame, failed: Failed, checker: Checker, bits: int | None
) -> pd.DataFrame:
    """Add `NEAR_DUPLICATE` to rows that look like an earlier good one, whose path becomes `duplicate_of`."""
    good = [row for row in readable.index if not failed[row]]
    earlier = [""] * len(readable)
    if bits is not None:
        first = first_alike(readable["likeness"].iloc[good].tolist(), bits)
        for row, kept in zip(good, first, strict=True):
            if good[kept] != row:
                earlier[row] = readable["path"].iloc[good[kept]]
    readable = readable.assign(duplicate_of=_texts(earlier))
    if bits is not None:
        candidates = readable.loc[good].reset_index(drop=True)
        outcomes = checker.check("2b near-duplicates", candidates, [NEAR_DUPLICATE])
        for place in outcomes[NEAR_DUPLICATE].rows:
            failed[good[place]].append(NEAR_DUPLICATE)
    return readable


def _explained(readable: pd.DataFrame, failed: Failed) -> pd.DataFrame:
    """Return the rows with `reason`, `failed` and `failures` added."""
    rows: list[Any] = readable.to_dict("records")
    both = list(zip(failed, rows, strict=True))
    return readable.assign(
        reason=_texts("; ".join(dict.fromkeys(rule.explain(row) for rule in rules)) for rules, row in both),
        failed=_texts(";".join(rule.name for rule in rules) for rules in failed),
        failures=_failures(readable, failed),
    )


def _rejected(rejected: pd.DataFrame) -> pd.DataFrame:
    failures = _failures(rejected, [[READABLE]] * len(rejected))
    return rejected.assign(duplicate_of="", failed=READABLE.name, failures=failures)


def _texts(texts: Iterable[str]) -> Any:
    return pd.array(list(texts), dtype="str")


def _failures(rows: pd.DataFrame, failed: Failed) -> "pd.Series[Any]":
    """Return the failures of each row, in the format of the columns `warnings` and `failures`."""
    records: list[Any] = rows.to_dict("records")
    found = [[_failure(rule, row) for rule in rules] for rules, row in zip(failed, records, strict=True)]
    return pd.Series(found, index=rows.index, dtype="object")


def _failure(rule: Rule, row: Mapping[str, Any]) -> dict[str, str]:
    observed = row[rule.observed or rule.expectation.column or ""]
    return {
        "expectation": rule.expectation.kind,
        "column": rule.expectation.column or "",
        "label": rule.label,
        "observed": observed if isinstance(observed, str) else as_text(observed),
        "required": rule.required,
    }
