"""Fixtures of the end-to-end tests: a browser, and a finished project."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from once import Once
from project import commit, copy_project, make_project, run

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or another Chrome that is installed; in CI, a test without one fails."""
    from playwright.sync_api import sync_playwright

    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(found, None)
    if path is None:
        lacking = "no Chromium is installed (Debian: apt-get install chromium)"
        pytest.fail(lacking) if os.environ.get("CI") else pytest.skip(lacking)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Folder of screenshots for manual inspection; git ignores it."""
    folder = Path(__file__).parents[1] / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def finished_project(once: Once, mlflow_template: Path) -> Path:
    """A tiny project after `dvc repro`, its results committed; tests leave its files as they are."""

    def make(place: Path) -> None:
        folder = place / "project"
        make_project(folder, mlflow_template)
        run(folder, "git", "init", "-q", "-b", "main")
        commit(folder, "A project")
        run(folder, "dvc", "repro")
        commit(folder, "Its results")

    return once("finished", make) / "project"


@pytest.fixture
def copied(finished_project: Path, mlflow_template: Path, tmp_path: Path) -> Path:
    """A copy of the finished project with a folder of clips and a T2I model, as a user would add them."""
    return copy_project(finished_project, tmp_path / "project", mlflow_template)
