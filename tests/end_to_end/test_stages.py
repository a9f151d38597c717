"""Test a stage in a project that has run nothing: without git, in another environment, when DVC is killed."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from project import ROOT, change, environment, make_project, run

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path) -> Path:
    """A project as in a downloaded archive, with the parts of `make` that it needs."""
    folder = tmp_path / "project"
    make_project(folder, mlflow_template)
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv/installed").touch()
    return folder


@pytest.fixture
def without_git(project: Path) -> Path:
    """The project after the commands that `make demo` runs before its stages."""
    before = run(project, "make", "--no-print-directory", "--dry-run", "demo").partition("dvc repro")[0]
    run(project, "sh", "-euc", before)
    return project


def test_the_demo_needs_no_git(without_git: Path) -> None:
    run(without_git, "dvc", "repro", "sample_data")
    assert len(list((without_git / "data/01_raw/clips").iterdir())) > 48


def test_with_git_dvc_uses_it(project: Path) -> None:
    run(project, "git", "init", "-q")
    assert "core.no_scm false" in run(project, "make", "--no-print-directory", "--dry-run", "demo")


def test_the_shells_environment_changes_no_stage(without_git: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDRO_ENV", "emoji")
    run(without_git, "dvc", "repro", "ingest")
    assert (without_git / "data/02_intermediate/clips.parquet").is_file()
    assert not (without_git / "data/emoji").exists()


def test_dvc_takes_clips_from_an_absolute_path_and_kedro_warns_of_a_home(
    without_git: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = tmp_path / "home/my clips #1"
    run(without_git, "dvc", "repro", "sample_data")
    shutil.copytree(without_git / "data/01_raw/clips", clips)
    monkeypatch.setenv("HOME", str(clips.parent))
    change(without_git / "conf/base/globals.yml", {"clips": "~/my clips #1"})
    assert "DVC does not expand" in run(without_git, "kedro", "run", "--pipelines=ingest")
    change(without_git / "conf/base/globals.yml", {"clips": str(clips)})
    assert "DVC does not expand" not in run(without_git, "dvc", "repro", "ingest")
    (clips / "another.txt").write_text("a cat")
    assert "modified" in run(without_git, "dvc", "status", "ingest")


@pytest.mark.parametrize(
    ("begun", "number", "command"),
    [
        (True, signal.SIGTERM, "sample_data"),
        (True, signal.SIGKILL, "sample_data && true"),  # a shell is between DVC and Kedro
        (False, signal.SIGTERM, "sample_data && true"),
    ],
)
def test_a_stage_ends_with_dvc(begun: bool, number: signal.Signals, command: str, without_git: Path) -> None:
    """DVC is stopped while its processes compute, or when Kedro has just started."""
    change(without_git / "conf/base/parameters_sample_data.yml", {"sample_data": {"clips": 3000}})
    stages = without_git / "dvc.yaml"
    stages.write_text(stages.read_text().replace("=sample_data\n", f"={command}\n"))
    words = ["dvc", "repro", "--single-item", "sample_data"]
    dvc = subprocess.Popen(
        words, cwd=without_git, env=environment(), start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert dvc.stdout is not None
    while "> kedro run" not in dvc.stdout.readline():
        assert dvc.poll() is None
    while begun and not list(without_git.rglob("*.gif")):
        time.sleep(0.05)
    dvc.send_signal(number)
    dvc.wait()
    deadline = time.monotonic() + 60
    while left := in_session(dvc.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def in_session(leader: int) -> list[str]:
    """Return the processes still running in a command's session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (OSError, psutil.Error):  # it has ended in the meantime
            continue
    return found
