"""Test that the package of `kedro package` runs in a separate environment with only its configuration.

The environment has the packages of the tests' environment, but not this project's sources.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from once import Once
from project import ROOT, environment, make_project, run

ARCHIVE = "conf-mobius_pipeline.tar.gz"
SOURCES = ROOT / "src/mobius_pipeline"
# Up to the samples of one mode, smaller than in other tests' projects, so it takes seconds.
PIPELINES = "sample_data,ingest,validate,base,encode,train_parallel,sample_parallel"
SMALLER = "sample_data.clips=24,sample.count=1,train.equal_compute=false,train.evaluate_every=8"


@dataclass(frozen=True)
class Package:
    """Output of `kedro package`, and an environment with the wheel installed."""

    wheel: Path
    archive: Path
    scripts: Path

    def run(self, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a script of the environment in `folder`, which is not a project."""
        own = environment()
        path = f"{self.scripts}{os.pathsep}{own['PATH']}"
        unset = ("PYTHONPATH", "KEDRO_LOGGING_CONFIG")
        clean = {key: value for key, value in own.items() if key not in unset} | {"PATH": path}
        program = shutil.which(words[0], path=path)
        assert program is not None
        return subprocess.run(
            [program, *words[1:]], cwd=folder, env=clean, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="session")
def package(once: Once, mlflow_template: Path) -> Package:
    """The tiny project, packaged and installed."""

    def make(place: Path) -> None:
        project = place / "project"
        make_project(project, mlflow_template)
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, project / name)
        run(project, "kedro", "package")
        fresh = place / "fresh"
        run(place, sys.executable, "-m", "venv", "--without-pip", str(fresh))
        inside = sysconfig.get_path("purelib", vars={"base": str(fresh)})
        Path(inside, "beside.pth").write_text(sysconfig.get_path("purelib"))
        (wheel,) = (project / "dist").glob("*.whl")
        pip = [sys.executable, "-m", "pip", "--python", str(fresh / "bin/python"), "install", "--quiet"]
        run(place, *pip, "--no-deps", "--no-index", "--no-compile", str(wheel))

    made = once("package", make)
    (wheel,) = (made / "project/dist").glob("*.whl")
    return Package(wheel, made / "project/dist" / ARCHIVE, made / "fresh/bin")


@pytest.fixture
def empty(package: Package, tmp_path: Path) -> Path:
    """A folder that has only the configuration's archive."""
    shutil.copy(package.archive, tmp_path)
    return tmp_path


def test_the_wheel_holds_every_file_of_the_package(package: Package) -> None:
    files = {path.relative_to(SOURCES.parent).as_posix() for path in SOURCES.rglob("*") if path.is_file()}
    with zipfile.ZipFile(package.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {name for name in files if "__pycache__" not in name}


def test_its_logging_is_the_project_s(package: Package) -> None:
    assert (SOURCES / "logging.yml").read_text() == (ROOT / "conf/logging.yml").read_text()


def test_it_trains_and_samples_in_an_empty_folder(package: Package, empty: Path) -> None:
    """Pages, runs and videos are made with only the installed package: no git, DVC or project files."""
    options = [f"--conf-source={ARCHIVE}", f"--pipelines={PIPELINES}", f"--params={SMALLER}"]
    done = package.run(empty, "mobius-pipeline", *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "WARNING" not in done.stdout + done.stderr
    assert (
        "Loading data from" not in done.stdout + done.stderr
    )  # Kedro's own logging prints this for every input
    assert {path.name for path in empty.iterdir()} == {ARCHIVE, "data", "mlruns"}
    assert len(pd.read_parquet(empty / "data/03_primary/manifest.parquet")) == 24
    assert "</html>" in (empty / "data/08_reporting/data_docs/index.html").read_text()
    assert list((empty / "data/07_model_output/parallel").rglob("*.mp4"))
    tags = recorded(empty)["parallel"].data.tags
    assert tags["mlflow.source.name"].startswith("mobius-pipeline --conf-source=")
    assert tags["mobius_pipeline.version"] == package.wheel.name.split("-")[1]
    assert "mlflow.source.git.commit" not in tags


def test_its_commands_read_the_unpacked_configuration(package: Package, empty: Path) -> None:
    refused = package.run(empty, "mobius", "relocate")
    assert refused.returncode == 1
    assert f"tar -xzf {ARCHIVE}" in refused.stderr
    run(empty, "tar", "-xzf", ARCHIVE)
    again = package.run(empty, "mobius", "relocate")
    assert "Nothing was recorded yet" in again.stderr


def recorded(folder: Path) -> "dict[str, mlflow.entities.Run]":
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("mobius")
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "There is no configuration in {folder}/conf"),
        ([f"--conf-source={ARCHIVE}", "--params=clps=x"], "Did you mean clips?"),
        ([f"--conf-source={ARCHIVE}", "--params=clips=nowhere"], "There is no folder {folder}/nowhere"),
    ],
)
def test_a_mistake_is_an_error_in_plain_words(
    options: list[str], said: str, package: Package, empty: Path
) -> None:
    done = package.run(empty, "python", "-m", "mobius_pipeline", "--pipelines=ingest", *options)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("mobius: ")
    assert said.format(folder=empty) in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert {path.name for path in empty.iterdir()} == {ARCHIVE}


def test_a_session_gets_the_result(package: Package, empty: Path) -> None:
    """Databricks calls it like this from a notebook."""
    code = (
        "import sys; sys.ps1 = '>>>'; from mobius_pipeline.__main__ import main\n"
        "if __name__ == '__main__':\n"
        f"    options = ['--conf-source={ARCHIVE}', '--params=sample_data.clips=6']\n"
        "    print(sorted(main(['--pipelines=sample_data', *options])))"
    )
    (empty / "notebook.py").write_text(code)
    done = package.run(empty, "python", "notebook.py")
    assert done.stdout.splitlines()[-1] == "['raw_clips@sample']", done.stdout + done.stderr
