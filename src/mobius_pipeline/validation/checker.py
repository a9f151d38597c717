"""Check tables with Great Expectations, in memory; `data_docs.py` renders the results."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.validation.rules import Rule

_NAMING = ("path", "reason")  # columns that identify a failing row in the pages, if they are not empty
_RULE = "rule"  # key in the `meta` of an expectation: the index of its rule


class Outcome(NamedTuple):
    """The result of checking a rule on a table.

    Attributes:
        name: Name of the rule.
        success: Whether the table passes.
        result: Great Expectations' result.
        error: The exception that prevented the check, or "".
        places: Row of each path in the table.
    """

    name: str
    success: bool
    result: dict[str, Any]
    error: str
    places: dict[str, int]

    @property
    def rows(self) -> list[int]:
        """Rows of a table of clips that fail.

        Raises:
            MobiusError: If the expectation could not be checked.
        """
        if self.error:
            raise MobiusError(f"{self.name!r} cannot be checked on the clips: {self.error}")
        return [self.places[one["path"]] for one in self.result.get("unexpected_index_list") or []]


class Checker:
    """One run of checks; it keeps all results until `DataDocs` renders them."""

    def __init__(self) -> None:
        import great_expectations as gx
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
        )

        # Without a configuration, Great Expectations leaves a folder for Data Docs in the temporary folder.
        stores = InMemoryStoreBackendDefaults()
        self.context = gx.get_context(
            mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=stores)
        )
        self.context.variables.progress_bars = {"globally": False}
        self._source = self.context.data_sources.add_pandas("tables")
        now = datetime.now(UTC)
        self._run = RunIdentifier(run_name=f"{now:%Y-%m-%d %H:%M:%S.%f} UTC", run_time=now)

    def check(self, title: str, table: pd.DataFrame, rules: Sequence[Rule]) -> dict[Rule, Outcome]:
        """Check rules on a table with a default index; the pages identify failing rows by `_NAMING`."""
        import great_expectations as gx

        naming = [column for column in _NAMING if column in table and table[column].astype("str").any()]
        expectations = [rule.expectation.to_gx(**{_RULE: place}) for place, rule in enumerate(rules)]
        suite = self.context.suites.add(gx.ExpectationSuite(title, expectations=expectations))
        batch = self._source.add_dataframe_asset(title).add_batch_definition_whole_dataframe("all rows")
        definition = gx.ValidationDefinition(name=title, data=batch, suite=suite)
        validation = self.context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": naming},
            run_id=self._run,
        )
        places = {path: row for row, path in enumerate(table["path"])} if "path" in naming else {}
        found = {one.expectation_config.meta[_RULE]: one for one in validation.results}
        return {rule: _outcome(rule.name, found[place], places) for place, rule in enumerate(rules)}


def _outcome(name: str, found: Any, places: dict[str, int]) -> Outcome:
    """Convert a result; Great Expectations reports an exception at the top level or once per metric."""
    info = found.exception_info
    raised = [info] if "raised_exception" in info else list(info.values())
    errors = [one["exception_message"] for one in raised if one["raised_exception"]]
    result = found.to_json_dict()["result"]
    return Outcome(name, bool(found.success), result, "; ".join(errors), places)
