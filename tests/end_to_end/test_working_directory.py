"""Test that a run does not depend on the working directory: paths are relative to the project."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from copies import copied
from mobius_pipeline.pipeline_registry import CHAIN
from mobius_pipeline.runtime.files import folder_digest
from project import environment, finished, run

RUN = """
import sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from pathlib import Path

if __name__ == "__main__":  # ingestion starts processes
    project = Path(sys.argv[1])
    bootstrap_project(project)
    for name in sys.argv[2:]:
        with KedroSession.create(project_path=project) as session:
            session.run(pipeline_names=[name])
"""
# These pipelines write no times or random names, so their outputs are always the same.
EXACT = ("sample_data", "ingest", "validate", "base", "encode")
FOLDERS = ("01_raw/clips", "02_intermediate", "03_primary", "05_model_input/latents", "06_models/base")


def digests(project: Path) -> dict[str, str]:
    return {name: folder_digest(project / "data" / name) for name in FOLDERS}


@pytest.fixture(scope="module")
def project(finished_project: Path, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere") / "project"
    ignored = shutil.ignore_patterns("mlruns")  # its artifacts are in the first project
    copied(finished_project, folder, ignore=ignored)
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    (folder / "notebooks/deep").mkdir(parents=True)
    return folder


def test_every_pipeline_runs_from_a_folder_inside(project: Path) -> None:
    """Nothing is written into the folder, and no output changes."""
    before = digests(project)
    inside = project / "notebooks/deep"
    done = finished(inside, "kedro", "run", f"--pipelines={','.join(EXACT)}")
    assert "0 already encoded" not in done.stdout + done.stderr
    assert digests(project) == before
    assert list(inside.iterdir()) == []


def test_every_pipeline_runs_from_a_folder_outside(project: Path, tmp_path: Path) -> None:
    before = digests(project)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    names = [name for name in CHAIN if name not in ("sample_data", "base")]
    run(tmp_path, "python", "run.py", str(project), *names)
    assert digests(project) == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.py"]


def test_a_home_folder_is_expanded(project: Path, tmp_path: Path) -> None:
    """Clips and base model are below the user's home and named with `~`."""
    home = tmp_path / "home"
    shutil.copytree(project / "data/01_raw/clips", home / "clips")
    copied(project / "data/06_models/base", home / "model")
    done = subprocess.run(
        [*(Path(sys.executable).parent / "kedro",), "run", "--pipelines=ingest,base",
         "--params=clips=~/clips,base_model=~/model"],
        cwd=project, env={**environment(), "HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert folder_digest(project / "data/06_models/base") == folder_digest(home / "model")
