"""Test `mobius ui` in a real browser over the runs of a real chain: every page that a user would open."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mobius_pipeline.tracking import api as tracking
from ports import free_port

MODES = ("serial", "parallel")
COLUMNS = ("memory/peak_gib", "time/step_s", "eval/loss_start", "eval/loss", "quality/prompt_match")


@dataclass(frozen=True)
class Ui:
    """A running `mobius ui`: its output, its process, and the runs that it shows."""

    printed: list[str]
    process: psutil.Process
    taken: int
    runs: dict[str, Any]

    @property
    def address(self) -> str:
        """URL that it printed."""
        return next(line.split()[1] for line in self.printed if line.startswith("Open"))

    @property
    def charts(self) -> str:
        """URL of the charts that it printed."""
        return next(line.split()[1] for line in self.printed if line.startswith("Charts"))

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL."""
        return self.address.split("/#")[0]

    def metric(self, mode: str, key: str) -> float:
        """Return a recorded metric."""
        return float(self.runs[mode].data.metrics[key])

    def run_page(self, name: str, tab: str = "") -> str:
        """Return the URL of a run's page in MLflow's view of trainings."""
        run = self.runs[name].info
        page = f"{self.origin}/#/experiments/{run.experiment_id}/runs/{run.run_id}{tab}"
        return f"{page}?workflowType=machine_learning"


@pytest.fixture(scope="module")
def ui(finished_project: Path) -> Iterator[Ui]:
    """`mobius ui --port N` in the finished project, with N in use; it is stopped by an interrupt."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{finished_project / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("mobius")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with socket.socket() as taken:
        port = free_port(5600)  # below the system's ephemeral ports
        taken.bind((tracking.HOST, port))
        taken.listen()
        command = [sys.executable, "-m", "mobius_pipeline.cli", "ui", "--port", str(port)]
        server = subprocess.Popen(command, cwd=finished_project, env=clean, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        printed = []
        for line in server.stdout:
            printed.append(line)
            if line.startswith("Charts"):
                break
        assert printed[-1].startswith("Charts"), printed
        yield Ui(printed, psutil.Process(server.pid), port, runs)
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=20) == 130


@pytest.fixture
def page(ui: Ui, browser: Any) -> Iterator[Any]:
    """A page of a new browser profile; it must send no external requests and raise no errors."""
    context = browser.new_context(viewport={"width": 1900, "height": 1000})
    opened = context.new_page()
    asked: list[str] = []
    broken: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: broken.append(str(error)))
    yield opened
    context.close()
    assert not broken
    assert not [url for url in asked if not url.startswith((ui.origin, "data:", "blob:"))]


def row(page: Any, name: str) -> Any:
    """Return the cell of a run's row with its name."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


SHOWN_IN_ORDER = """wanted => {
    const left = header => header.getBoundingClientRect().left;
    const headers = [...document.querySelectorAll('[role=columnheader][col-id]')];
    const shown = headers.sort((a, b) => left(a) - left(b)).map(header => header.getAttribute('col-id'));
    return shown.filter(column => wanted.includes(column)).join() === wanted.join();
}"""
# A metric's name and values are in two grids, which scroll together and render only visible rows.
LINE = """name => {
    const table = name.closest('[role=grid]').parentElement.parentElement;
    const cells = [...table.querySelectorAll('[role=rowgroup] > div')];
    const beside = cells.filter(cell => cell.style.top === name.parentElement.style.top);
    return beside.map(cell => cell.innerText);
}"""


def compared(page: Any, key: str) -> list[float]:
    """Return the values of a metric on the page that compares runs, in order."""
    names = page.get_by_role("grid").filter(has=page.get_by_role("link"))
    names.wait_for()
    name = names.get_by_role("link", name=key, exact=True)
    values = names.locator("xpath=../..").get_by_role("grid").last
    for _ in range(50):
        found = name.evaluate(LINE) if name.count() else []
        if len(found) == 1 + len(MODES):
            return [float(text) for text in found if text != key]
        values.hover()
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(100)
    raise AssertionError(f"{key} does not come into sight")


def test_a_taken_port_is_passed_over_with_a_warning(ui: Ui) -> None:
    used = int(ui.origin.rsplit(":", 1)[1])
    assert used != ui.taken
    assert f"Port {ui.taken} is taken: using {used}.\n" in ui.printed


def test_the_server_listens_here_only_and_unpickles_nothing(ui: Ui) -> None:
    everyone = [ui.process, *ui.process.children(recursive=True)]
    listening = [
        f"{found.laddr.ip}:{found.laddr.port}"
        for process in everyone
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {ui.origin.removeprefix("http://")}
    servers = [process for process in everyone if any("mlflow" in word for word in process.cmdline())]
    assert servers
    for server in servers:
        assert server.environ()["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.parametrize("host", ["10.evil.com", "127.0.0.1:80", "localhost.evil.com"])
def test_foreign_host_names_are_refused(ui: Ui, host: str) -> None:
    address = f"{ui.origin}/api/2.0/mlflow/experiments/get?experiment_id=0"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": host}), timeout=10)
    assert caught.value.code == 403


def test_the_table_tells_what_both_modes_cost_and_reach(ui: Ui, page: Any, artifacts: Path) -> None:
    page.goto(ui.address)
    page.get_by_role("link", name="serial", exact=True).wait_for()
    page.wait_for_function(SHOWN_IN_ORDER, arg=[f"metrics.`{key}`" for key in COLUMNS])
    for mode in MODES:
        index = row(page, mode).first.get_attribute("row-index")
        for key in COLUMNS:
            cell = page.locator(f'[row-index="{index}"] [col-id="metrics.`{key}`"]')
            assert float(cell.inner_text()) == ui.metric(mode, key)
        said = page.locator(f'[row-index="{index}"] [col-id="attributes.`Description`"]')
        assert said.inner_text().startswith(f"{mode.capitalize()}: peak memory ")
    page.screenshot(path=artifacts / "mlflow-runs.png")


def test_at_1600_px_a_new_browser_shows_every_figure(ui: Ui, browser: Any, artifacts: Path) -> None:
    """MLflow opens a panel there, which takes a quarter of the table's width."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(ui.address)
    page.get_by_role("link", name="serial", exact=True).wait_for()
    page.wait_for_function(SHOWN_IN_ORDER, arg=[f"metrics.`{key}`" for key in COLUMNS])
    table = page.get_by_role("treegrid").or_(page.get_by_role("grid")).first.bounding_box()
    assert table["x"] + table["width"] < 1600
    for key in COLUMNS:
        cell = page.locator(f'[row-index="0"] [col-id="metrics.`{key}`"]').bounding_box()
        assert cell["x"] + cell["width"] <= table["x"] + table["width"]
    page.screenshot(path=artifacts / "mlflow-runs-1600.png")
    page.close()


def test_the_charts_lay_both_modes_over_each_other(ui: Ui, page: Any, artifacts: Path) -> None:
    page.goto(ui.charts)
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    cards.nth(5).locator("svg").first.wait_for()
    titles = [card.inner_text().splitlines()[0] for card in cards.all()[:6]]
    costs, curves = ["memory/peak_gib", "time/step_s", "time/training_s"], ["heldout_loss", "loss"]
    assert titles == [*costs, *curves, "eval/loss"]
    for position in range(6):
        assert {"serial", "parallel"} <= set(re.findall(r"\w+", cards.nth(position).inner_text()))
    for position in (3, 4):
        drawn = cards.nth(position).locator("path.js-line[d]:not([d='M0,0'])")
        drawn.nth(1).wait_for(state="attached")  # one mode's line may be drawn before the other's
        colours = {line.evaluate("line => line.style.stroke") for line in drawn.all()}
        assert len(colours) == 2
    page.screenshot(path=artifacts / "mlflow-charts.png")


def test_the_comparison_of_two_selected_runs(ui: Ui, page: Any, artifacts: Path) -> None:
    page.goto(ui.address)
    for mode in MODES:
        row(page, mode).get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    for key in ("eval/loss", "memory/peak_gib", "time/step_s"):
        recorded = [ui.metric(mode, key) for mode in MODES]
        assert compared(page, key) == pytest.approx(recorded, abs=6e-4)  # three decimals are shown
    page.screenshot(path=artifacts / "mlflow-compare.png", full_page=True)


def test_a_run_says_what_it_is_and_what_made_it(ui: Ui, page: Any, artifacts: Path) -> None:
    page.goto(ui.run_page("serial"))
    page.get_by_text(re.compile(r"Serial: peak memory .* 8 steps of 2 clips, seed 0, cpu")).wait_for()
    page.get_by_text("Samples that show their prompt").wait_for()
    page.get_by_text("kedro run --env=base --pipelines=train_serial").wait_for()
    page.screenshot(path=artifacts / "mlflow-run.png")
    page.get_by_text(re.compile(r"^latents \(")).click()
    page.get_by_text("data/05_model_input/latents").wait_for()
    page.get_by_text("heldout clips").wait_for()
    page.screenshot(path=artifacts / "mlflow-dataset.png")


def test_a_checkpoint_has_a_page(ui: Ui, page: Any, artifacts: Path) -> None:
    experiment = ui.runs["serial"].info.experiment_id
    page.goto(f"{ui.origin}/#/experiments/{experiment}/models?workflowType=machine_learning")
    page.get_by_role("link", name="parallel-8", exact=True).wait_for()
    page.screenshot(path=artifacts / "mlflow-models.png")
    page.get_by_role("link", name="serial-8", exact=True).click()
    page.get_by_text("Checkpoint of step 8").wait_for()
    page.get_by_role("link", name="serial", exact=True).first.wait_for()
    page.get_by_text(re.compile(r"^data/\.work/\w+/serial/step-00000008$")).first.wait_for()
    page.get_by_text(str(ui.metric("serial", "heldout_loss")), exact=True).wait_for()
    page.screenshot(path=artifacts / "mlflow-checkpoint.png", full_page=True)


def test_a_sampled_video_plays(ui: Ui, page: Any, artifacts: Path) -> None:
    page.goto(ui.run_page("parallel", "/artifacts/samples/000.mp4"))
    video = page.locator("video")
    video.wait_for()
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    assert video.evaluate("video => video.videoWidth") > 0
    video.evaluate("async video => { video.loop = false; await video.play() }")
    page.wait_for_function("document.querySelector('video').currentTime > 0")
    page.screenshot(path=artifacts / "mlflow-video.png")


def test_the_comparison_holds_the_report(ui: Ui, page: Any, artifacts: Path) -> None:
    page.goto(ui.run_page("comparison"))
    page.get_by_text(re.compile("^Parallel against serial: peak memory .*, median step")).wait_for()
    page.screenshot(path=artifacts / "mlflow-comparison.png")
    page.goto(ui.run_page("comparison", "/artifacts/comparison.html"))
    page.frame_locator("iframe").get_by_role("heading", name="Serial against parallel").wait_for()
    page.screenshot(path=artifacts / "mlflow-report.png")
