"""Fixtures that several rooms share; being here also lets tests import their helpers beside this file."""

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
import forked
import warm
from mobius_pipeline.runtime import telemetry
from once import Once, once_in

telemetry.silence()
# Tiny models gain nothing from threads, and golden losses must not depend on how many there are.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent
COMMANDS: "pytest.StashKey[warm.Commands]" = pytest.StashKey()
# One worker makes the finished project in the first of these while another one kills processes in the second;
# the rest, which is shorter, comes afterwards, so that no worker waits long for the last file of another.
FIRST = ("end_to_end/test_chain.py", "faults/", "end_to_end/", "training/")


def scheduling() -> int | None:
    """The policy by which this process gets its processor time, on Linux."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


SCHEDULING = scheduling()


def pytest_configure(config: pytest.Config) -> None:
    """Start the server of warm commands, one for all workers."""
    if not hasattr(config, "workerinput"):
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        commands = warm.Commands(folder)
        commands.start()
        config.stash[COMMANDS] = commands
        config.add_cleanup(lambda: (commands.stop(), shutil.rmtree(folder)))
        os.environ[warm.FOLDER] = str(folder)


def pytest_collection_finish() -> None:
    """Collect garbage seldom, and not among what is imported: that took a fifth of the trainings' time."""
    warm.collect_seldom()
    forked.in_place_of_spawned()


def pytest_runtest_teardown() -> None:
    """Find the test after which all others, and what they start, would go before every other process."""
    assert scheduling() == SCHEDULING, "a library changed the scheduling of this process"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the commands that the server did not start, which take seconds longer."""
    if found := Counter(config.stash[COMMANDS].not_served):
        terminalreporter.section("commands started without the server, by variables that differ")
        for line, times in found.items():
            terminalreporter.line(f"{times} x {line}")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and mark tests by what they need."""

    def turn(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT).as_posix()
        return next((turn for turn, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))

    items.sort(key=turn)
    for item in items:
        for name in marks(item):
            item.add_marker(name)


def marks(item: pytest.Item) -> set[str]:
    """The marks that follow from where a test lies and from the fixtures that it asks for."""
    fixtures = set(getattr(item, "fixturenames", ()))
    found = {"browser"} & fixtures
    folder = item.path.relative_to(ROOT).parts[0]
    if "finished_project" in fixtures or folder == "end_to_end":
        found.add("slow")
    return found | {folder} & {"faults", "cuda"}


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Makes folders that all workers share, and that no test changes."""
    own = tmp_path_factory.getbasetemp()
    return once_in(own if worker_id == "master" else own.parent)


@pytest.fixture
def torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes torchao importable, which the Makefile installs beside the environment."""
    monkeypatch.syspath_prepend(str(Path(sys.prefix) / "quantized"))


@pytest.fixture(scope="session")
def mlflow_template(once: Once) -> Path:
    """An empty MLflow database: making one takes seconds, copying it nothing."""

    def make(folder: Path) -> None:
        import mlflow

        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return once("mlflow-template", make) / "mlflow.db"


@pytest.fixture
def tracked_project(tmp_path: Path, mlflow_template: Path) -> Iterator[Path]:
    """A project folder with tracking configured, and its state put back afterwards."""
    from mobius_pipeline.tracking import api as tracking

    (tmp_path / "mlruns").mkdir()
    shutil.copy(mlflow_template, tmp_path / "mlruns/mlflow.db")
    tracking.configure(tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns")), tmp_path)
    yield tmp_path
    tracking.reset()


@pytest.fixture(scope="session")
def sample_media(once: Once) -> Path:
    """The videos that `comparison_example.comparison()` names."""
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
    """The table of the sample clips, with both splits in it."""
    import golden
    import tiny
    from ingested import ingested

    def make(folder: Path) -> None:
        ingested(sample_clips, golden.INGEST, tiny.CLIP, folder / "work").to_pickle(folder / "table.pickle")

    return pd.read_pickle(once("table", make) / "table.pickle")


@pytest.fixture(scope="session")
def tiny_store(once: Once, tiny_base: Path, sample_clips: Path, sample_table: "pd.DataFrame") -> Path:
    """The sample clips' latents under the tiny base model."""
    import tiny
    from mobius_pipeline.latents.update import update_store

    def make(folder: Path) -> None:
        update_store(folder, sample_table, sample_clips, tiny_base, tiny.CLIP, tiny.encode_config())

    return once("latents", make)
