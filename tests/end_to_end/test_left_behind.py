"""Test that stages that are stopped or killed while writing leave no partial output."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from project import change, copy_project, run, started, warm_environment

SCRATCHES = ".*.partial"
# What each stage is writing when it gets the signal, below `data`.
WRITING = {
    "ingest": ".work/ingest/.clips.parquet.partial/clips.parquet",
    "validate": ".work/.expectations.partial/expectations/gx",
    "base": ".work/.base.partial/.base.partial/base/vae/notes.bin",
    "sample_serial": ".work/samples/.serial.partial/.serial.partial/serial/000.mp4",
}


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A project with a trained mode and a user's base model whose import takes a while."""
    folder = copy_project(finished_project, tmp_path_factory.mktemp("left") / "project", mlflow_template)
    with (folder / "my_model/vae/notes.bin").open("wb") as file:
        file.truncate(1 << 30)
    change(folder / "conf/base/parameters_sample.yml", {"sample": {"magnify": 16, "count": 12}})
    assert not list((folder / "data").rglob(SCRATCHES))
    return folder


def met_while_writing(project: Path, stage: str, number: signal.Signals) -> tuple[int, str]:
    """Start a stage, and send it a signal while it writes; return its exit status and what it printed."""
    if stage == "ingest":
        shutil.rmtree(project / "data/.work/ingest")  # its cache of clips
    model = ["--params=base_model=my_model"] if stage == "base" else []
    words = ["kedro", "run", f"--pipelines={stage}", *model]
    process = started(project, *words)
    while not list((project / "data").glob(WRITING[stage])):
        assert process.running(), process.wait(0)
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGSTOP)  # otherwise it might end before the signal
    assert list((project / "data").rglob(SCRATCHES))
    os.killpg(process.pid, number)
    os.killpg(process.pid, signal.SIGCONT)
    return process.wait(120)


SLOW = pytest.mark.faults_slow


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("ingest", signal.SIGTERM),
        ("base", signal.SIGTERM),
        ("sample_serial", signal.SIGINT),
        pytest.param("ingest", signal.SIGINT, marks=SLOW),
        pytest.param("validate", signal.SIGINT, marks=SLOW),
        pytest.param("validate", signal.SIGTERM, marks=SLOW),
        pytest.param("base", signal.SIGINT, marks=SLOW),
        pytest.param("sample_serial", signal.SIGTERM, marks=SLOW),
    ],
)
def test_a_stopped_stage_leaves_nothing_half_written(
    stage: str, number: signal.Signals, project: Path
) -> None:
    status, printed = met_while_writing(project, stage, number)
    assert status == (143 if number == signal.SIGTERM else 1), printed
    assert "Traceback" not in printed
    assert not list((project / "data").rglob(SCRATCHES))


@pytest.mark.parametrize(
    ("killed", "then"),
    [
        ("base", "validate"),
        pytest.param("sample_serial", "ingest", marks=SLOW),
        pytest.param("ingest", "validate", marks=SLOW),
    ],
)
def test_what_a_killed_stage_left_goes_when_another_starts(killed: str, then: str, project: Path) -> None:
    assert met_while_writing(project, killed, signal.SIGKILL)[0] == -signal.SIGKILL
    assert list((project / "data").rglob(SCRATCHES))
    assert "left by a stopped run" in " ".join(run(project, "kedro", "run", f"--pipelines={then}").split())
    assert not list((project / "data").rglob(SCRATCHES))


def test_a_failing_stage_leaves_nothing_half_written(project: Path) -> None:
    """A file that cannot be copied ends the import halfway."""
    (project / "my_model/vae/link").symlink_to("nothing")
    try:
        words = ["kedro", "run", "--pipelines=base", "--params=base_model=my_model"]
        done = subprocess.run(words, cwd=project, env=warm_environment(), capture_output=True, text=True)
    finally:
        (project / "my_model/vae/link").unlink()
    assert done.returncode == 1
    assert "Cannot copy" in " ".join(done.stderr.split())
    assert not list((project / "data").rglob(SCRATCHES))
