"""Split the clip table into manifest and quarantine; a table that fails as a whole stops the run."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.validation.checker import Checker
from mobius_pipeline.validation.config import ValidateConfig
from mobius_pipeline.validation.data_docs import DataDocs
from mobius_pipeline.validation.heldout import hold_out
from mobius_pipeline.validation.rows import split_rows
from mobius_pipeline.validation.rules import (
    INTEGERS,
    NEAR_DUPLICATE,
    READABLE,
    UNIQUE,
    Rule,
    columns_and_types,
    enough,
    quarantined_share,
    rejected_share,
    row_rules,
    users_rules,
    users_table_rules,
)
from mobius_pipeline.validation.user_expectations import REMEDY, check_against, decision

log = logging.getLogger(__name__)


class Validated(NamedTuple):
    """The clips that pass, the other rows (with `failed` and `reason`), and the folder of Data Docs."""

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
    """Split the clips into manifest and quarantine; Data Docs and the quarantine explain each decision.

    Args:
        table: One row per clip or rejected file, with the columns of the clip table and optional others.
        config: The limits and further expectations.
        clip: The clip format of the model; shorter clips are quarantined.
        work: Folder below which the Data Docs are written, in `data_docs`.
        trained: Sources and groups that are never held out (see `hold_out`).

    Raises:
        MobiusError: If the table as a whole fails. The Data Docs and `quarantine.parquet` are written below
            `work` before; the error names every failed expectation, the observed value and the remedy.
    """
    copy = work / "quarantine.parquet"
    copy.unlink(missing_ok=True)
    checker, docs = Checker(), DataDocs(work, config.history)
    if problems := _broken(checker, "1 columns and types", table, columns_and_types())[0]:
        raise _stopped(problems, docs.publish(checker), None)
    _check_entries(config, clip, table)
    warnings, stops = users_rules(config, "warn"), users_rules(config, "stop")
    rules = row_rules(config, clip)
    manifest, quarantine = split_rows(table, rules, [*warnings, *stops], checker, config.near_duplicate_bits)
    manifest = hold_out(manifest, trained)
    problems, messages = _judge_tables(checker, config, table, manifest, quarantine)
    folder = docs.publish(checker)
    log.info(closing_line(manifest, quarantine, rules))
    messages += [
        f"Kept with a warning: {count} clips ({rule.label})."
        for rule in warnings
        if (count := _count_kept(rule, manifest))
    ]
    problems += [
        f"{count} clips: {rule.label}, required {rule.required} (`action: stop`). {REMEDY}"
        for rule in stops
        if (count := _count_kept(rule, manifest))
    ]
    for message in [*messages, *_large_shares(config, table, quarantine, manifest)]:
        log.warning(message)
    if problems:
        quarantine.to_parquet(copy)
        raise _stopped(problems, folder, copy)
    return Validated(manifest.astype(dict.fromkeys(INTEGERS, "int64")), quarantine, folder)


def _judge_tables(
    checker: Checker,
    config: ValidateConfig,
    table: pd.DataFrame,
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
) -> tuple[list[str], list[str]]:
    """Check the tables as a whole; return the problems that stop the run, and the warnings."""
    of_manifest = [*enough(config), *users_table_rules(config)]
    checks = [
        ("3 rejected files", table, [rejected_share(config)]),
        ("4 quarantined clips", _verdicts(manifest, quarantine), [quarantined_share(config)]),
        ("5 manifest", manifest, of_manifest),
    ]
    found = [_broken(checker, title, judged, rules) for title, judged, rules in checks]
    return [one for stops, _ in found for one in stops], [one for _, warns in found for one in warns]


def _verdicts(manifest: pd.DataFrame, quarantine: pd.DataFrame) -> pd.DataFrame:
    """Return `path`, `kept` and `reason` of each readable clip."""
    failing = quarantine[quarantine["failed"] != READABLE.name]
    parts = {True: manifest, False: failing}
    both = [rows[["path", "reason"]].assign(kept=kept) for kept, rows in parts.items()]
    return pd.concat(both, ignore_index=True)


def _count_kept(rule: Rule, manifest: pd.DataFrame) -> int:
    return int((~manifest[decision(rule.expectation)]).sum())


def _check_entries(config: ValidateConfig, clip: ClipFormat, table: pd.DataFrame) -> None:
    own = (*row_rules(config, clip), UNIQUE, NEAR_DUPLICATE)
    check_against(
        "expectations", config.expectations, table, {rule.name for rule in own if not rule.is_users}
    )
    of_manifest = {rule.name for rule in enough(config)}
    check_against("table_expectations", config.table_expectations, table, of_manifest)


def _large_shares(
    config: ValidateConfig, table: pd.DataFrame, quarantine: pd.DataFrame, manifest: pd.DataFrame
) -> list[str]:
    """Return warnings about large shares of rejected or quarantined rows that do not stop the run."""
    rejected = int((quarantine["failed"] == READABLE.name).sum())
    failing = len(quarantine) - rejected
    readable = len(manifest) + failing
    shares = (
        ("of the rows are rejected", rejected, len(table), config.warn_rejected_share),
        ("of the readable clips are quarantined", failing, readable, config.warn_quarantined_share),
    )
    return [
        f"{100 * count / of:.3g} % {what}, more than {100 * most:.3g} %."
        for what, count, of, most in shares
        if of and count / of > most
    ]


def closing_line(manifest: pd.DataFrame, quarantine: pd.DataFrame, rules: Sequence[Rule]) -> str:
    """Return a summary: how many clips pass, and how many are quarantined for which first reason."""
    labels = {rule.name: rule.label for rule in (*rules, READABLE, UNIQUE, NEAR_DUPLICATE)}
    counts = quarantine["failed"].str.split(";").str[0].map(labels).value_counts()
    reasons = ", ".join(f"{count} {label}" for label, count in counts.items())
    return f"{len(manifest)} clips pass, {len(quarantine)} quarantined" + (f" ({reasons})" if reasons else "")


def _broken(
    checker: Checker, title: str, table: pd.DataFrame, rules: Sequence[Rule]
) -> tuple[list[str], list[str]]:
    """Check rules on a table; return descriptions of failures that stop the run, and of those that warn.

    Rules for missing columns are skipped.
    """
    applicable = [rule for rule in rules if rule.expectation.is_applicable(table)]
    stops: list[str] = []
    warns: list[str] = []
    for rule, found in checker.check(title, table, applicable).items():
        if not found.success:
            line = f"{rule.name}: {found.error or rule.explain(found.result)}. {rule.remedy}"
            (warns if rule.action == "warn" else stops).append(line)
    return stops, warns


def _stopped(problems: Sequence[str], docs: Path, quarantine: Path | None) -> MobiusError:
    files = f"Data Docs: {docs / 'index.html'}" + (f"; quarantine: {quarantine}" if quarantine else "")
    return MobiusError(
        "\n- ".join(["The table of clips does not meet the requirements of training:", *problems, files])
    )
