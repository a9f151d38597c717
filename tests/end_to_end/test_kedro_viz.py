"""Test `kedro viz run` on a finished project: graph, previews, and that it sends no telemetry."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import viz

IN_MEMORY = {"trainings", "step_times", "data_summary"}
LAYERS = ["raw", "intermediate", "primary", "model_input", "models", "model_output", "reporting"]


@pytest.fixture(scope="module")
def address(finished_project: Path) -> Iterator[str]:
    """URL of a Kedro-Viz that serves the finished project."""
    with viz.serving(finished_project) as address:
        yield address


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
    places = {"work", "project", "media"}  # without a layer, because many nodes use them
    assert {name for name, layer in data.items() if layer is None} == places | IN_MEMORY
    assert data["serial.samples"] == "model_output"
    modes = {node["name"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    assert modes == {"serial", "parallel"}
    steps = {node["name"] for node in graph["nodes"] if node["type"] == "task"}
    assert steps >= {"render_sample_clips", "encode_clips", "train", "sample", "evaluate", "compare"}
    assert not [step for step in steps if "lambda" in step]
    assert {tag["id"] for tag in graph["tags"]} == {"serial", "parallel", "gpu", "report", "tracked"}


def test_every_dataset_has_a_preview(address: str, graph: dict[str, Any]) -> None:
    data = [node for node in graph["nodes"] if node["type"] == "data"]
    shown = {node["name"]: ask(address, f"nodes/{node['id']}") for node in data}
    without = {name for name, details in shown.items() if not details.get("preview")}
    places = {"work", "project", "media", "sample_clips", "base_source", "latents_store", "earlier_manifest"}
    # Kedro-Viz has no preview of missing paths, transcoded datasets and HTML.
    assert without == places | IN_MEMORY | {"raw_clips", "comparison_report"}
    kinds = {name: details["preview_type"] for name, details in shown.items() if name not in without}
    assert kinds["manifest"] == kinds["latents"] == kinds["serial.trained"] == "TablePreview"
    assert kinds["real_videos"] == kinds["parallel.samples"] == "ImagePreview"
    assert kinds["serial.loss_curve"] == "PlotlyPreview"
    assert (
        kinds["plan"]
        == kinds["comparison"]
        == kinds["references"]
        == kinds["serial.metrics"]
        == "JSONPreview"
    )


def test_previews_hold_what_the_files_hold(
    address: str, graph: dict[str, Any], finished_project: Path
) -> None:
    def preview(name: str) -> Any:
        return ask(address, f"nodes/{node_id(graph, name)}")["preview"]

    table = preview("manifest")
    assert len(table["data"]) == 20
    assert table["columns"][:3] == ["path", "caption", "reason"]
    assert table["columns"][-2:] == ["clip_id", "source_sha256"]
    files = dict(preview("serial.trained")["data"])
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
    assert [url for url in asked if not url.startswith((address, *viz.FONTS, "data:", "blob:"))] == []
    page.close()
