"""The spin count of threads is set before torch is imported, unless the user has set one."""

import os
import subprocess
import sys

import pytest

from mobius_pipeline.runtime.threads import SPIN_COUNT

START = {
    "kedro": "import mobius_pipeline.settings",
    "mobius": "from mobius_pipeline.cli import main; main(['--help'])",
}


def started(command: str, then: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a command as far as it runs before a pipeline is imported, and run another line."""
    plain = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    words = [sys.executable, "-c", f"{START[command]}; {then}"]
    return subprocess.run(words, env=plain | environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("command", START)
@pytest.mark.parametrize(
    ("own", "count"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_a_user_s_own_setting_stays(command: str, own: dict[str, str], count: str | None) -> None:
    done = started(command, "import os; print(os.environ.get('GOMP_SPINCOUNT'))", **own)
    assert done.stdout.splitlines()[-1] == str(count)


@pytest.mark.parametrize("command", START)
def test_torch_reads_it(command: str) -> None:
    """With OMP_DISPLAY_ENV, libgomp prints its settings when torch loads it."""
    done = started(command, "import torch", OMP_DISPLAY_ENV="VERBOSE")
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in done.stderr
