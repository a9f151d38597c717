"""Test a project of an unprivileged user with a read-only home, no network and an unusual path."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from project import environment, make_project

pytestmark = pytest.mark.faults_slow

NOBODY = 65534
PIPELINES = "sample_data,ingest,validate,base,encode,plan,train_parallel,sample_parallel"
# Gives access to an interpreter in root's home, in a mount namespace that ends with the process;
# then becomes nobody.
ENTER = """
set -e
if [ -n "$CLOSED" ]; then
    mount --bind "$PREFIX" "$HELD"
    mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
    mkdir -p "$PREFIX"
    mount --bind "$HELD" "$PREFIX"
fi
ip link show up | grep -q . && exit 90
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""


@pytest.fixture
def place(mlflow_template: Path) -> Iterator[Path]:
    """A folder owned by nobody, with non-ASCII letters, spaces and signs in its path, that all may enter."""
    top = Path(tempfile.mkdtemp(prefix="mobius-"))
    top.chmod(0o755)
    folder = top / "Prüfung 工程 (2) & 100% #1/my project"
    folder.mkdir(parents=True)
    make_project(folder, mlflow_template)
    for path in (top, *top.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(top)


def closed(path: Path) -> Path | None:
    """Return the first folder on the way to `path` that others may not enter."""
    ways = [folder for folder in reversed([path, *path.parents]) if not folder.stat().st_mode & 0o001]
    return ways[0] if ways else None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
def test_nobody_runs_the_chain_without_home_and_network(place: Path, tmp_path: Path) -> None:
    home, held = place.parent.parent / "home", tmp_path / "held"
    home.mkdir(mode=0o555)
    held.mkdir()
    prefix = Path(sys.base_prefix)
    unset = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "MPLCONFIGDIR", "TMPDIR")
    own = {key: value for key, value in environment().items() if key not in unset}
    about = {
        "HOME": str(home),
        "CLOSED": str(closed(prefix) or ""),
        "PREFIX": str(prefix),
        "HELD": str(held),
        "PYTHONPATH": str(place / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    kedro = [sys.executable, "-m", "kedro", "run", f"--pipelines={PIPELINES}"]
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", ENTER, "enter", *kedro],
        cwd=place,
        env=own | about,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(pd.read_parquet(place / "data/03_primary/manifest.parquet")) > 20
    assert (place / "data/06_models/parallel/metrics.json").stat().st_uid == NOBODY
    assert list((place / "data/07_model_output/parallel").rglob("*.mp4"))
    assert list(home.iterdir()) == []
