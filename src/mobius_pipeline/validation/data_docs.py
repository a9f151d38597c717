"""Great Expectations: tables checked against expectations, and Data Docs of what was found."""

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import move_folder
from mobius_pipeline.validation.page_view import PageView


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

    def gx_options(self) -> set[str]:
        """The options that it takes."""
        return set(self._gx_type().__fields__)

    def to_gx(self) -> Any:
        """Return it as Great Expectations' own object."""
        return self._gx_type()(**self.options | ({"column": self.column} if self.column else {}))

    def _gx_type(self) -> Any:
        import great_expectations.expectations as gxe

        return getattr(gxe, self.kind.title().replace("_", ""))


_VIEW = {"view": {"module_name": PageView.__module__, "class_name": PageView.__name__}}
_TELLING = ("path", "reason")  # columns that name a row, where there is anything in them
ABOUT_NULLS = ("expect_column_values_to_be_null", "expect_column_values_to_not_be_null")


def expectations_known() -> tuple[list[str], list[str]]:
    """Names in snake case of Great Expectations' own: on each value of a column, and on tables as a whole."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.expectation import (
        BatchExpectation,
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    kinds = [kind for kind in vars(gxe).values() if isinstance(kind, type)]
    of_rows = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    of_values = [kind for kind in kinds if issubclass(kind, ColumnMapExpectation)]
    of_tables = [
        kind for kind in kinds if issubclass(kind, BatchExpectation) and not issubclass(kind, of_rows)
    ]
    return _snake_case(of_values), _snake_case(of_tables)


def _snake_case(kinds: Iterable[type]) -> list[str]:
    return sorted(re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in kinds)


class Outcome(NamedTuple):
    """A result of Great Expectations; `error` is the exception that kept it from being checked, or "".

    `places` are the rows of the paths that are in the table.
    """

    name: str
    success: bool
    result: dict[str, Any]
    error: str
    places: dict[str, int]

    @property
    def rows(self) -> list[int]:
        """The rows that fail, in a table of clips.

        Raises:
            MobiusError: If the expectation could not be checked.
        """
        if self.error:
            raise MobiusError(f"{self.name!r} cannot be checked on the clips: {self.error}")
        return [self.places[one["path"]] for one in self.result.get("unexpected_index_list") or []]


class DataDocs:
    """A Great Expectations project that checks tables and describes each as HTML, beside earlier runs.

    The project is made anew in `root`; what lives on from run to run are the results alone, in
    `work/expectations_history`, so no older project need be read.
    """

    def __init__(self, root: Path, work: Path, history: int) -> None:
        """Show at most `history` runs, this one among them; `root`, a folder to make, can go afterwards."""
        import great_expectations as gx
        from great_expectations.core.run_identifier import RunIdentifier

        self._root = root.absolute()
        self._target, self._past, self._history = work / "data_docs", work / "expectations_history", history
        self._root.mkdir()
        self._context = gx.get_context(mode="file", project_root_dir=str(self._root))
        self._context.variables.progress_bars = {"globally": False}
        self._source = self._context.data_sources.add_pandas("tables")
        self._results = self._root / "gx/uncommitted/validations"
        site = self._context.variables.data_docs_sites["local_site"]
        ours = {
            "site_index_builder": {**site["site_index_builder"], **_VIEW},
            "site_section_builders": {"expectations": _VIEW, "validations": _VIEW, "profiling": "None"},
        }
        self._context.update_data_docs_site("local_site", {**site, **ours})
        if self._past.is_dir():
            shutil.copytree(self._past, self._results, dirs_exist_ok=True)
        now = datetime.now(UTC)
        self._run = RunIdentifier(run_name=f"{now:%Y-%m-%d %H:%M:%S.%f} UTC", run_time=now)

    def check(
        self, title: str, table: pd.DataFrame, expectations: Sequence[Expectation]
    ) -> dict[Expectation, Outcome]:
        """Check a table whose index counts its rows; the pages name those that fail as `_TELLING` says."""
        import great_expectations as gx

        telling = [column for column in _TELLING if column in table and table[column].astype("str").any()]

        suite = gx.ExpectationSuite(title, expectations=[asked.to_gx() for asked in expectations])
        batch = self._source.add_dataframe_asset(title).add_batch_definition_whole_dataframe("all rows")
        definition = gx.ValidationDefinition(name=title, data=batch, suite=self._context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=title,
            validation_definitions=[self._context.validation_definitions.add(definition)],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": telling},
        )
        run = self._context.checkpoints.add(checkpoint).run(
            batch_parameters={"dataframe": table}, run_id=self._run
        )
        (validation,) = run.run_results.values()
        places = {path: row for row, path in enumerate(table["path"])} if "path" in telling else {}
        by_name = {_name_of(found): _outcome(found, places) for found in validation.results}
        return {asked: by_name[asked.name] for asked in expectations}

    def publish(self) -> Path:
        """Render what was checked, and move the HTML and the results under the work folder."""
        self._forget()
        self._context.build_data_docs()  # once: an action of each checkpoint would render everything anew
        site = self._root / "gx/uncommitted/data_docs/local_site"
        shutil.rmtree(site / "static")  # fonts and pictures of Great Expectations' own pages
        move_folder(site, self._target)
        move_folder(self._results, self._past)
        return self._target

    def _forget(self) -> None:
        """Drop the results of runs beyond the last `history`; they lie in <suite>/<run's name>."""
        runs = sorted({run.name for run in self._results.glob("*/*")})
        for name in runs[: -self._history]:
            for run in self._results.glob(f"*/{name}"):
                shutil.rmtree(run)


def _name_of(found: Any) -> str:
    asked = found.expectation_config
    return Expectation(asked.type, asked.kwargs.get("column")).name


def _outcome(found: Any, places: dict[str, int]) -> Outcome:
    """Read a result; one that raised names its exception at the top level or once a metric."""
    info = found.exception_info
    raised = [info] if "raised_exception" in info else list(info.values())
    errors = [one["exception_message"] for one in raised if one["raised_exception"]]
    result = found.to_json_dict()["result"]
    return Outcome(_name_of(found), bool(found.success), result, "; ".join(errors), places)
