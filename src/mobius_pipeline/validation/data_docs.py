"""Render the results of Great Expectations as HTML (Data Docs), with those of earlier runs."""

import shutil
from pathlib import Path
from typing import Any

from mobius_pipeline.runtime.files import move_folder
from mobius_pipeline.runtime.scratch import scratch
from mobius_pipeline.validation.checker import Checker
from mobius_pipeline.validation.page_view import PageView

_VIEW = {"view": {"module_name": PageView.__module__, "class_name": PageView.__name__}}


class DataDocs:
    """Renders results of checks as HTML.

    Great Expectations renders only its own projects, so a new one is created below `work` for each run. Only
    the results are kept between runs, in `work/expectations_history`.
    """

    def __init__(self, work: Path, history: int) -> None:
        """Show at most `history` runs, including this one."""
        self._work, self._history = work, history

    def publish(self, checker: Checker) -> Path:
        """Render and keep the results of `checker`; return the folder of the HTML pages."""
        target, past = self._work / "data_docs", self._work / "expectations_history"
        with scratch(self._work / "expectations") as root:
            root.mkdir()
            results = root / "gx/uncommitted/validations"
            context = _project(root.absolute())
            if past.is_dir():
                shutil.copytree(past, results, dirs_exist_ok=True)
            _copy_results(checker.context, context)
            self._forget(results)
            context.build_data_docs()
            site = root / "gx/uncommitted/data_docs/local_site"
            shutil.rmtree(site / "static")  # fonts and images of Great Expectations' default pages
            move_folder(site, target)
            move_folder(results, past)
        return target

    def _forget(self, results: Path) -> None:
        """Delete the results of all but the last `history` runs; they are in <suite>/<name of the run>."""
        runs = sorted({run.name for run in results.glob("*/*")})
        for name in runs[: -self._history]:
            for run in results.glob(f"*/{name}"):
                shutil.rmtree(run)


def _project(root: Path) -> Any:
    """Create an empty project of Great Expectations that renders pages with `PageView`."""
    import great_expectations as gx

    context = gx.get_context(mode="file", project_root_dir=str(root))
    context.variables.progress_bars = {"globally": False}
    site = context.variables.data_docs_sites["local_site"]
    pages = {
        "site_index_builder": {**site["site_index_builder"], **_VIEW},
        "site_section_builders": {"expectations": _VIEW, "validations": _VIEW, "profiling": "None"},
    }
    context.update_data_docs_site("local_site", {**site, **pages})
    return context


def _copy_results(source: Any, target: Any) -> None:
    """Copy expectation suites and results between contexts of Great Expectations."""
    import great_expectations as gx

    for suite in source.suites.all():
        expectations = [expectation.configuration for expectation in suite.expectations]
        target.suites.add(gx.ExpectationSuite(suite.name, expectations=expectations))
    for key in source.validation_results_store.list_keys():
        target.validation_results_store.set(key, source.validation_results_store.get(key))
