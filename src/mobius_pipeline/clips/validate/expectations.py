"""What the table of clips must hold: bad rows are quarantined, a bad table stops the run."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mobius_pipeline.clips.validate.data_docs import DataDocs
from mobius_pipeline.clips.validate.rules import (
    INTEGERS,
    READABLE,
    UNIQUE,
    RowRule,
    TableRule,
    ValidateConfig,
    columns_and_types,
    enough,
    quarantined_share,
    rejected_share,
    row_rules,
)
from mobius_pipeline.config import ClipFormat
from mobius_pipeline.errors import MobiusError

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


def split_rows(
    table: pd.DataFrame, rules: Sequence[RowRule], docs: DataDocs
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
