"""The spin count of threads is set before torch is imported, unless the user has set one."""

import os
import subprocess
import sys

import pytest

from mobius_pipeline.runtime.threads import SPIN_COUNT


@pytest.mark.parametrize(
    ("own", "count"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_a_user_s_own_setting_stays(own: dict[str, str], count: str | None) -> None:
    plain = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", "import os, mobius_pipeline; print(os.environ.get('GOMP_SPINCOUNT'))"]
    done = subprocess.run(command, env=plain | own, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(count)


def test_torch_reads_it() -> None:
    """With OMP_DISPLAY_ENV, libgomp prints its settings when torch loads it."""
    plain = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", "import mobius_pipeline, torch"]
    environment = {**plain, "OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in done.stderr
