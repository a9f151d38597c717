"""Test every stage of `dvc repro` stopped by Ctrl-C or SIGTERM: run again, it gives the same result."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from mobius_pipeline.runtime.files import digest, sha256
from project import run, started

pytestmark = pytest.mark.faults_slow

STAGES = ["sample_data", "ingest", "validate", "base", "encode", "plan"]
STAGES += [f"{name}@parallel" for name in ("train", "sample", "evaluate")] + ["compare"]
# Reports and records have times and run ids; tables, weights and videos depend only on the data.
LASTING = {".parquet", ".safetensors", ".mp4", ".webm", ".gif", ".webp", ".csv"}


@pytest.fixture(scope="module")
def clone(finished_project: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "project"
    run(folder.parent, "git", "clone", "-q", str(finished_project), folder.name)
    run(folder, "dvc", "cache", "dir", "--local", str(finished_project / ".dvc/cache"))
    run(folder, "dvc", "checkout")
    (folder / "mlruns").mkdir(exist_ok=True)
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    return folder


def outs(folder: Path, stage: str) -> dict[str, str]:
    """Return the reproducible files of a stage's outputs with their hashes."""
    about = yaml.safe_load((folder / "dvc.lock").read_text())["stages"][stage]
    found = [
        path for out in about["outs"] for path in ((folder / out["path"]), *(folder / out["path"]).rglob("*"))
    ]
    assert all((folder / out["path"]).exists() for out in about["outs"])
    files = [path for path in found if path.is_file() and path.suffix in LASTING]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def stopped_at_work(folder: Path, stage: str, number: signal.Signals, draw: random.Random) -> int:
    """Start the stage and signal all its processes once Kedro runs."""
    process = started(folder, "dvc", "repro", "--force", "--single-item", stage)
    while "Kedro project" not in (folder / "log").read_text():
        assert process.running(), process.wait(0)
        time.sleep(0.02)
    time.sleep(draw.uniform(0, 0.6))
    with suppress(ProcessLookupError):  # it ended before the signal
        os.killpg(process.pid, number)
    return process.wait(120)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_stage_ends_the_same(stage: str, number: signal.Signals, clone: Path) -> None:
    before = outs(clone, stage)
    draw = random.Random(digest([stage, int(number)]))
    stopped_at_work(clone, stage, number, draw)
    run(clone, "dvc", "repro", "--single-item", stage)
    assert outs(clone, stage) == before
    assert f"Running stage '{stage}'" not in run(clone, "dvc", "repro", "--single-item", "--dry", stage)
