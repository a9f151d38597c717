"""Describe expectations of Great Expectations without importing it, which takes seconds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd


@dataclass(frozen=True, eq=False)
class Expectation:
    """An expectation of Great Expectations on `column` or on the table; `kind` is its name in snake case."""

    kind: str
    column: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name for users: the expectation and its column."""
        return f"{self.kind} {self.column}" if self.column else self.kind

    def is_applicable(self, table: pd.DataFrame) -> bool:
        """Return whether the table has the column, or the expectation is that it exists."""
        return self.column is None or self.kind == "expect_column_to_exist" or self.column in table

    def to_gx(self, **meta: Any) -> Any:
        """Return the expectation as an object of Great Expectations.

        Args:
            meta: Metadata that its result will carry.

        Raises:
            ValidationError: (pydantic v1) If an option has a wrong value.
        """
        from great_expectations.expectations.registry import get_expectation_impl

        options = self.options | ({"column": self.column} if self.column else {})
        if meta:
            options["meta"] = (options.get("meta") or {}) | meta
        return get_expectation_impl(self.kind)(**options)


class Kind(NamedTuple):
    """What Great Expectations' schema files say about an expectation.

    Attributes:
        judges: "Column Map" for single values; "Column Aggregate" or "Batch" for tables as a whole.
        options: Names of its options; None if it has no schema, so that only Great Expectations can check
            them.
    """

    judges: str
    options: frozenset[str] | None


@cache
def kinds() -> Mapping[str, Kind]:
    """Return all expectations of Great Expectations by their names in snake case."""
    package = find_spec("great_expectations")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "expectations/core/schemas"
    index = _read(folder / "index.json")
    without_schema = {name: Kind("Column Map", None) for name in index["documented_absent"]}
    schemas = (_read(folder / about["schema_file"]) for about in index["expectations"].values())
    return without_schema | dict(_kind(schema["properties"]) for schema in schemas)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _kind(properties: Mapping[str, Any]) -> tuple[str, Kind]:
    about = properties["metadata"]["properties"]
    options = frozenset(properties.keys() - {"metadata"})
    return about["expectation_type"]["const"], Kind(about["domain_type"]["description"], options)


def kinds_that_judge(*what: str) -> list[str]:
    """Return the sorted names of the expectations whose `Kind.judges` is one of `what`."""
    return sorted(name for name, kind in kinds().items() if kind.judges in what)
