"""Fixtures that several packages share; this file also makes the helpers beside it importable."""

import gc
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import comparison_example
import copies
import forked
import warm
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.runtime import telemetry
from once import Once, once_in

telemetry.silence()
gc.disable()  # until all tests are imported: libraries create a million objects that stay
# Tiny models gain nothing from threads, and golden losses must not depend on their number.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent
COMMANDS: "pytest.StashKey[warm.Commands]" = pytest.StashKey()
# Long files run first, so that no worker waits long for the last file of another. One worker creates the
# finished project in the first of these, while another one kills processes in the second.
FIRST = ("end_to_end/test_chain.py", "faults/", "end_to_end/", "training/")


def scheduling() -> int | None:
    """Return the scheduling policy of this process, on Linux."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


SCHEDULING = scheduling()


def pytest_configure(config: pytest.Config) -> None:
    """Start the server of warm commands, which all workers share."""
    if not hasattr(config, "workerinput"):
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        commands = warm.Commands(folder)
        commands.start()
        config.stash[COMMANDS] = commands
        config.add_cleanup(lambda: (commands.stop(), shutil.rmtree(folder)))
        os.environ[warm.FOLDER] = str(folder)


def pytest_collection_finish() -> None:
    """Collect garbage seldom and not among imported objects, which took a fifth of the trainings' time."""
    warm.collect_seldom()
    forked.in_place_of_spawned()


def pytest_runtest_teardown() -> None:
    """Find the test that changes what it shares with others: a process's priority, or files of its copies."""
    assert scheduling() == SCHEDULING, "a library changed the scheduling of this process"
    assert copies.written_into() == [], "a test wrote into a link; see tests/copies.py"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the commands that were started without the server, which takes seconds longer."""
    if found := Counter(config.stash[COMMANDS].not_served):
        terminalreporter.section("commands started without the server, by variables that differ")
        for line, times in found.items():
            terminalreporter.line(f"{times} x {line}")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and mark the tests by their requirements."""

    def turn(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT).as_posix()
        return next((turn for turn, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))

    items.sort(key=turn)
    for item in items:
        for name in marks(item):
            item.add_marker(name)


def marks(item: pytest.Item) -> set[str]:
    """Return the marks that follow from a test's folder and fixtures."""
    fixtures = set(getattr(item, "fixturenames", ()))
    found = {"browser"} & fixtures
    folder = item.path.relative_to(ROOT).parts[0]
    if "finished_project" in fixtures or folder == "end_to_end":
        found.add("slow")
    return found | {folder} & {"faults", "cuda"}


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Creates folders that all workers share and no test changes."""
    own = tmp_path_factory.getbasetemp()
    return once_in(own if worker_id == "master" else own.parent)


@pytest.fixture
def torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes torchao importable, which the Makefile installs in a separate folder."""
    monkeypatch.syspath_prepend(str(Path(sys.prefix) / "quantized"))


@pytest.fixture(scope="session")
def mlflow_template(once: Once) -> Path:
    """An empty MLflow database to copy, because creating one takes seconds."""

    def make(folder: Path) -> None:
        import mlflow

        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return once("mlflow-template", make) / "mlflow.db"


@pytest.fixture
def tracked_project(tmp_path: Path, mlflow_template: Path) -> Iterator[Path]:
    """A project folder with tracking configured; the state of tracking is reset afterwards."""
    from mobius_pipeline.tracking import api as tracking

    (tmp_path / "mlruns").mkdir()
    shutil.copy(mlflow_template, tmp_path / "mlruns/mlflow.db")
    tracking.configure(tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns")), tmp_path)
    yield tmp_path
    tracking.reset()


@pytest.fixture(scope="session")
def sample_media(once: Once) -> Path:
    """The videos that `comparison_example.comparison()` refers to."""
    return once("media", comparison_example.write_media)


@pytest.fixture(scope="session")
def tiny_base(once: Once) -> Path:
    """A tiny T2I model in diffusers format."""
    import tiny

    return once("base", tiny.write_base)


@pytest.fixture(scope="session")
def sample_clips(once: Once) -> Path:
    """24 sample clips in all four formats, with `captions.csv`."""
    import golden
    from mobius_pipeline.sources.sample_clips import write_set

    return once("clips", lambda folder: write_set(folder, golden.CLIPS))


@pytest.fixture(scope="session")
def sample_table(sample_clips: Path, once: Once) -> "pd.DataFrame":
    """The table of the sample clips, with both splits."""
    import golden
    import tiny
    from ingested import ingested

    def make(folder: Path) -> None:
        ingested(sample_clips, golden.INGEST, tiny.CLIP, folder / "work").to_pickle(folder / "table.pickle")

    return pd.read_pickle(once("table", make) / "table.pickle")


@pytest.fixture(scope="session")
def tiny_store(once: Once, tiny_base: Path, sample_clips: Path, sample_table: "pd.DataFrame") -> Path:
    """The latents of the sample clips, encoded with the tiny base model."""
    import tiny
    from mobius_pipeline.latents.update import update_store

    def make(folder: Path) -> None:
        update_store(
            folder, sample_table, sample_clips, BaseModel(tiny_base), tiny.CLIP, tiny.encode_config()
        )

    return once("latents", make)
