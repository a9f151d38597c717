"""Read the users' expectations in `conf/<env>/parameters_validate.yml`, which add to the built-in rules."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict
from pydantic.v1 import ValidationError  # Great Expectations' models use pydantic v1

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.validation.expectation import Expectation, kinds

REMEDY = "Repair or remove the clips, or change the entry in conf/base/parameters_validate.yml."


class _Entry(BaseModel):
    """An entry of either list; the options of its expectation are further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    expect: str
    column: str | None
    label: str

    @property
    def expectation(self) -> Expectation:
        """The expectation that the entry describes."""
        return Expectation(self.expect, self.column, dict(self.model_extra or {}))


class ClipEntry(_Entry):
    """An entry of `validate.expectations`: an expectation on each value of a column.

    Attributes:
        expect: Name of a column map expectation in snake case; its options are further keys.
        column: A column of the clip table.
        action: Whether a failing clip is quarantined, or kept and counted ("warn"), or stops the run
            ("stop").
        label: Name of the failing clips in the log and the report.
    """

    column: str
    action: Literal["quarantine", "warn", "stop"] = "quarantine"


class TableEntry(_Entry):
    """An entry of `validate.table_expectations`: an expectation on the manifest as a whole.

    Attributes:
        expect: Name of an expectation on a table or on a column as a whole; its options are further keys.
        column: A column of the manifest, or None.
        action: Whether a failing table stops the run ("stop") or causes a warning ("warn").
        label: Name of the failure in the log.
    """

    column: str | None = None
    action: Literal["warn", "stop"] = "stop"


def check_entries(key: str, entries: Sequence[ClipEntry | TableEntry], known: Collection[str]) -> None:
    """Refuse entries with names that Great Expectations does not know; `check_against` checks their values.

    Args:
        key: The key of `validate` that holds the entries.
        entries: The entries.
        known: Names of the expectations that are allowed there.

    Raises:
        MobiusError: If an expectation or an option is unknown, or an entry occurs twice.
    """
    seen: set[str] = set()
    for entry in entries:
        expectation = entry.expectation
        where = _where(key, expectation)
        if expectation.kind not in known:
            raise MobiusError(
                f"{where} is not an expectation that is allowed here.{_near(expectation.kind, known)}"
            )
        if "mostly" in expectation.options:
            raise MobiusError(
                f"{where} takes no `mostly`: each clip is judged alone. Use the limits on shares instead."
            )
        if expectation.name in seen:
            raise MobiusError(
                f"{where} occurs twice, but an expectation can be applied to a column only once. Change the "
                "first entry instead: it can take a lower and an upper limit, for instance."
            )
        seen.add(expectation.name)
        options = kinds()[expectation.kind].options
        for option in expectation.options.keys() - (options or expectation.options.keys()):
            raise MobiusError(f"{where} has no option {option!r}.{_near(option, options or ())}")


def check_against(
    key: str, entries: Sequence[ClipEntry | TableEntry], table: pd.DataFrame, own: Collection[str]
) -> None:
    """Refuse entries that cannot be checked on this table.

    Args:
        key: The key of `validate` that holds the entries.
        entries: The entries.
        table: The table whose columns they may name.
        own: Names of the built-in expectations.

    Raises:
        MobiusError: If there is no such column, an option has a wrong value, or the expectation is built in.
    """
    for entry in entries:
        expectation = entry.expectation
        where = _where(key, expectation)
        if expectation.column is not None and expectation.column not in table:
            raise MobiusError(
                f"{where}: there is no such column.{_near(expectation.column, list(table.columns))}"
            )
        if expectation.name in own:
            raise MobiusError(
                f"{where} is checked on every table already. Use its own limit under `validate`, "
                "if it has one, or another expectation."
            )
        try:
            expectation.to_gx()
        except ValidationError as error:
            raise MobiusError(f"{where} has wrong options: {_wrong(error, expectation)}.") from error


def _where(key: str, expectation: Expectation) -> str:
    return f"validate.{key}: {expectation.name!r}"


def _near(name: str, known: Collection[str]) -> str:
    alike = get_close_matches(name, sorted(known), 3)
    return f" Did you mean {' or '.join(alike)}?" if alike else ""


def _wrong(error: ValidationError, expectation: Expectation) -> str:
    """Describe what is wrong with which option, or with all of them together."""
    first = {str(one["loc"][0]): one["msg"] for one in reversed(error.errors())}
    options = expectation.options
    of_options = [f"{name} is {options[name]!r}, {why}" for name, why in first.items() if name in options]
    return "; ".join(of_options or first.values())


def decision(expectation: Expectation) -> str:
    """Return the name of the column with the result of an entry, such as `keeps_motion_between`."""
    what = expectation.kind.removeprefix("expect_column_").removeprefix("values_")
    short = re.sub("(^|_)to_(be_)?", r"\1", what)
    return f"keeps_{expectation.column}_{short}"


def in_words(expectation: Expectation) -> str:
    """Describe what an expectation requires: an interval, a set, or its name and options."""
    options = expectation.options
    what = re.sub("^expect_(table|column)_(values_)?", "", expectation.kind).replace("_", " ")
    least, most = options.get("min_value"), options.get("max_value")
    if least is not None or most is not None:
        of = re.sub("(^| )to be between$", "", what)  # "value lengths", or nothing for the values themselves
        return (f"{of} " if of else "") + _interval(least, most)
    if set(options) == {"value_set"} and what == "to be in set":
        return " or ".join("empty" if value == "" else repr(value) for value in options["value_set"])
    return what + "".join(f", {key} {value!r}" for key, value in options.items())


def _interval(least: object, most: object) -> str:
    if least is None:
        return f"at most {as_text(most)}"
    return f"at least {as_text(least)}" if most is None else f"{as_text(least)} to {as_text(most)}"


def as_text(value: Any) -> str:
    """Format a cell of the table for messages."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "nothing"
    return f"{value:g}" if isinstance(value, int | float) else repr(value)
