"""Run the benchmarks; those for other machines run in a tiny configuration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Modules that GPU benchmarks must not need; a module that is None cannot be imported.
_ABSENT = (
    "av", "daft", "dvc", "einops", "great_expectations", "kedro", "matplotlib", "mlflow", "pandas",
    "ray", "scenedetect", "torchmetrics", "transformers",
)  # fmt: skip


def test_the_gpu_benchmark_needs_torch_diffusers_and_the_source_folder(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    names = ["serial", "parallel", "parallel, checkpointed", "serial, autocast", "T2V base: parallel"]
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({_ABSENT!r})); "
        f"sys.argv = ['gpu.py', '--tiny', '--output', {str(output)!r}, '--recipes', *{names!r}]; "
        f"runpy.run_path({str(ROOT / 'benchmarks/gpu.py')!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(output.read_text())["rows"]
    assert [name for name, row in rows.items() if "failed" in row] == []
    assert list(rows) == names
    for row in rows.values():
        assert row["losses"][-1] < row["losses"][0]
    assert rows["parallel, checkpointed"]["predicted_bytes"] < rows["parallel"]["predicted_bytes"]
    assert rows["parallel"]["losses"][0] == rows["serial"]["losses"][0]  # both start as the base
