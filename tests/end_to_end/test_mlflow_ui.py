"""`mobius ui` in a real browser: serial and parallel side by side."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobius_pipeline import tracking

COSTS = {
    "serial": (2.08, 0.412, 0.221),
    "parallel": (1.23, 0.287, 0.224),
}  # GiB, step s, held-out loss


def record_trainings() -> None:
    for mode, (memory, step_s, loss) in COSTS.items():
        with tracking.training_run(
            mode, params={"train": {"lr": 1e-3}}, tags={}, inputs={"latents": "ab" * 32}
        ) as run:
            for step in range(20):
                run.log_metrics({"loss": 1 / (step + 1)}, step)
            run.log_metrics({"memory/peak_gib": memory, "time/step_s": step_s, "eval/loss": loss})


@pytest.fixture
def address(tracked_project: Path) -> Iterator[str]:
    """The address that `mobius ui` prints, while it serves."""
    record_trainings()
    settings = tracked_project / "conf/base/mlflow.yml"
    settings.parent.mkdir(parents=True)
    settings.write_text("experiment: mobius\nfolder: mlruns\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
    server = subprocess.Popen(
        [sys.executable, "-m", "mobius_pipeline.cli", "ui", "--port", "5600"],
        cwd=tracked_project, env=clean, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    printed = (re.search(r"http://\S+", line) for line in server.stdout if line.startswith("Open"))
    found = next(printed)
    assert found is not None
    yield found.group()
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=20) == 130


def test_the_ui_compares_serial_and_parallel(browser: Any, address: str, artifacts: Path) -> None:
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(address)
    page.get_by_role("link", name="serial", exact=True).wait_for()
    page.get_by_role("link", name="parallel", exact=True).wait_for()
    page.screenshot(path=artifacts / "mlflow-runs.png")
    page.get_by_role("checkbox", name="Select all runs").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    for key, column in (("memory/peak_gib", 0), ("time/step_s", 1), ("eval/loss", 2)):
        page.get_by_role("link", name=key, exact=True).wait_for()
        for mode in COSTS:
            page.get_by_text(str(COSTS[mode][column]), exact=True).first.wait_for()
    page.screenshot(path=artifacts / "mlflow-compare.png", full_page=True)
    origin = address.split("/#")[0]
    assert not [url for url in elsewhere if not url.startswith((origin, "data:", "blob:"))]
    assert_foreign_hosts_are_refused(origin)


def assert_foreign_hosts_are_refused(origin: str) -> None:
    address = f"{origin}/api/2.0/mlflow/experiments/search"
    request = urllib.request.Request(address, headers={"Host": "10.evil.com"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 403
