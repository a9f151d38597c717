"""`kedro viz run` on a finished project: the graph, what it shows of the data, and that it tells nobody."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mobius_pipeline import cli, tracking

LAYERS = ["raw", "intermediate", "primary", "model_input", "models", "model_output", "reporting"]
# Kedro-Viz asks PyPI for its newest version when it starts; here nothing outside this machine is asked.
NO_WAY_OUT = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": tracking.HOST}


@pytest.fixture(scope="module")
def address(finished_project: Path) -> Iterator[str]:
    """The address of a Kedro-Viz that serves the finished project."""
    port = cli.free_port(4141)
    words = [
        sys.executable,
        "-m",
        "kedro",
        "viz",
        "run",
        "--no-browser",
        f"--host={tracking.HOST}",
        f"--port={port}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_project)
        with cli.running_server(words, {**os.environ, **NO_WAY_OUT}) as server:
            wait_until_up(server, f"http://{tracking.HOST}:{port}")
            yield f"http://{tracking.HOST}:{port}"


def wait_until_up(server: subprocess.Popen[bytes], address: str) -> None:
    for _ in range(120):
        assert server.poll() is None, "Kedro-Viz ended; its words stand above"
        with suppress(urllib.error.URLError), urllib.request.urlopen(address, timeout=2):
            return
        time.sleep(0.5)
    pytest.fail("Kedro-Viz did not answer within a minute")


def ask(address: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/api/{path}", timeout=60) as answer:
        return dict(json.load(answer))


@pytest.fixture(scope="module")
def graph(address: str) -> dict[str, Any]:
    return ask(address, "main")


def node_id(graph: dict[str, Any], name: str) -> str:
    (found,) = (node["id"] for node in graph["nodes"] if node["name"] == name)
    return str(found)


def test_the_graph_shows_layers_modes_and_named_steps(graph: dict[str, Any]) -> None:
    assert graph["layers"] == LAYERS
    data = {node["name"]: node["layer"] for node in graph["nodes"] if node["type"] == "data"}
    assert {name for name, layer in data.items() if layer is None} == {"work"}  # every step's, so of no layer
    assert data["serial.samples"] == "model_output"
    modes = {node["name"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    assert modes == {"serial", "parallel"}
    steps = {node["name"] for node in graph["nodes"] if node["type"] == "task"}
    assert steps >= {"render_sample_clips", "encode_clips", "train", "sample", "evaluate", "compare"}
    assert not [step for step in steps if "lambda" in step]
    assert {tag["id"] for tag in graph["tags"]} == {"serial", "parallel", "gpu", "report"}


def test_every_dataset_has_a_preview(address: str, graph: dict[str, Any]) -> None:
    data = [node for node in graph["nodes"] if node["type"] == "data"]
    shown = {node["name"]: ask(address, f"nodes/{node['id']}") for node in data}
    without = {name for name, details in shown.items() if not details.get("preview")}
    places = {"work", "sample_clips", "base_source", "latents_store"}
    # Kedro-Viz shows none of a place that holds nothing yet, of a file of several names, or of HTML.
    assert without == places | {"raw_clips", "comparison_report"}
    kinds = {name: details["preview_type"] for name, details in shown.items() if name not in without}
    assert kinds["manifest"] == kinds["latents"] == kinds["serial.weights"] == "TablePreview"
    assert kinds["real_videos"] == kinds["parallel.samples"] == "ImagePreview"
    assert kinds["serial.loss_curve"] == "PlotlyPreview"
    assert kinds["plan"] == kinds["comparison"] == kinds["serial.metrics"] == "JSONPreview"


def test_previews_hold_what_the_files_hold(
    address: str, graph: dict[str, Any], finished_project: Path
) -> None:
    def preview(name: str) -> Any:
        return ask(address, f"nodes/{node_id(graph, name)}")["preview"]

    table = preview("manifest")
    assert len(table["data"]) == 20
    assert {"path", "caption", "split"} <= set(table["columns"])
    files = dict(preview("serial.weights")["data"])
    weights = finished_project / "data/06_models/serial/diffusion_pytorch_model.safetensors"
    assert files[weights.name] == f"{weights.stat().st_size:,}"
    losses = preview("parallel.loss_curve")["data"][0]
    assert losses["name"] == "loss"
    rows = json.loads((finished_project / "data/08_reporting/parallel/loss_curve.json").read_text())
    assert losses["x"] == list(range(1, len(rows) + 1))
    assert losses["y"] == [row["loss"] for row in rows]
    picture = Image.open(BytesIO(base64.b64decode(preview("real_videos"))))
    assert picture.size == (4 * 64, 3 * 64)  # 4 frames of 3 videos, 16 px magnified by 4


def test_its_page_shows_them(browser: Any, address: str, graph: dict[str, Any], artifacts: Path) -> None:
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name, part in (
        ("manifest", ".preview-table"),
        ("serial.samples", "img.pipeline-metadata__plot-image"),
        ("serial.loss_curve", ".js-plotly-plot .scatterlayer .trace"),
    ):
        page.goto(f"{address}/?pid=__default__&sid={node_id(graph, name)}")
        page.locator(part).first.wait_for()
    page.get_by_role("button", name="Expand preview").click()
    page.locator(".pipeline-plotly__modal .legendtext").first.wait_for()
    page.screenshot(path=artifacts / "kedro-viz.png")
    elsewhere = {url.split("/")[2] for url in asked if not url.startswith((address, "data:", "blob:"))}
    assert elsewhere <= {"fonts.googleapis.com", "fonts.gstatic.com"}  # Kedro-Viz's own font; no telemetry
    page.close()
