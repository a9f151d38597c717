"""Entries of `conf/<env>/parameters_validate.yml`: what users ask beside the code's own rules."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict
from pydantic.v1 import ValidationError  # Great Expectations' own models are of that version

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.validation.data_docs import Expectation

MEND = "Mend or remove the clips, or change the entry in conf/base/parameters_validate.yml."


class ClipEntry(BaseModel):
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


class TableEntry(BaseModel):
    """An entry of `validate.table_expectations`: what the clips that are left must be together.

    Attributes:
        expect: An expectation on a table or on a column as a whole, its options beside these keys.
        column: A column of the manifest, or none.
        action: A table that fails ends the run ("stop"), or is told of ("warn").
        label: What the log calls it when it fails.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    expect: str
    column: str | None = None
    action: Literal["warn", "stop"] = "stop"
    label: str

    @property
    def expectation(self) -> Expectation:
        """It as Great Expectations' own."""
        return Expectation(self.expect, self.column, dict(self.model_extra or {}))


def check_entries(key: str, entries: Sequence[ClipEntry | TableEntry], known: Sequence[str]) -> None:
    """Refuse entries that no table can be asked.

    Args:
        key: Of `validate`, where they stand.
        entries: Its value.
        known: Names of the expectations that may stand there.

    Raises:
        MobiusError: If an expectation or an option is unknown, or an entry stands there twice.
    """
    seen: set[str] = set()
    for entry in entries:
        asked = entry.expectation
        where = _where(key, asked)
        if asked.kind not in known:
            raise MobiusError(f"{where} is no expectation that may stand here.{_near(asked.kind, known)}")
        if "mostly" in asked.options:
            raise MobiusError(f"{where} takes no `mostly`: each clip is judged alone. Use the shares.")
        if asked.name in seen:
            raise MobiusError(
                f"{where} stands there twice; an expectation is asked of a column once. Change the first "
                "entry instead: it takes a lower and an upper limit together, for instance."
            )
        seen.add(asked.name)
        for option in asked.options.keys() - (taken := asked.gx_options()):
            raise MobiusError(f"{where} has no option {option!r}.{_near(option, sorted(taken))}")
        try:
            asked.to_gx()
        except ValidationError as error:
            raise MobiusError(f"{where} cannot be asked like this: {_wrong(error, asked)}.") from error


def check_columns(
    key: str, entries: Sequence[ClipEntry | TableEntry], table: pd.DataFrame, own: Collection[str]
) -> None:
    """Refuse entries that cannot be asked of this table.

    Args:
        key: Of `validate`, where they stand.
        entries: Its value.
        table: Whose columns they may name.
        own: Names of what the code asks itself: results are told apart by expectation and column.

    Raises:
        MobiusError: If there is no such column, or an entry asks what is asked already.
    """
    for entry in entries:
        asked = entry.expectation
        if asked.column is not None and asked.column not in table:
            raise MobiusError(
                f"{_where(key, asked)}: there is no such column.{_near(asked.column, list(table.columns))}"
            )
        if asked.name in own:
            raise MobiusError(
                f"{_where(key, asked)} is asked of every table already. Use its own limit under `validate`, "
                "if it has one, or another expectation."
            )


def _where(key: str, asked: Expectation) -> str:
    return f"validate.{key}: {asked.name!r}"


def _near(name: str, known: Sequence[str]) -> str:
    alike = get_close_matches(name, known, 3)
    return f" Did you mean {' or '.join(alike)}?" if alike else ""


def _wrong(error: ValidationError, asked: Expectation) -> str:
    """What is wrong with which option, or with all of them together."""
    first = {str(one["loc"][0]): one["msg"] for one in reversed(error.errors())}
    of_options = {name: said for name, said in first.items() if name in asked.options}
    told = [f"{name} is {asked.options[name]!r}, {said}" for name, said in of_options.items()]
    return "; ".join(told or first.values())


def decision(expectation: Expectation) -> str:
    """The column that says whether a clip keeps an entry, for instance `keeps_motion_between`."""
    what = expectation.kind.removeprefix("expect_column_").removeprefix("values_")
    short = re.sub("(^|_)to_(be_)?", r"\1", what)
    return f"keeps_{expectation.column}_{short}"


def in_words(expectation: Expectation) -> str:
    """What an expectation requires: an interval, a set, or its options as they stand."""
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
        return f"at most {shown(most)}"
    return f"at least {shown(least)}" if most is None else f"{shown(least)} to {shown(most)}"


def shown(value: Any) -> str:
    """A cell of the table in words."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "nothing"
    return f"{value:g}" if isinstance(value, int | float) else repr(value)
