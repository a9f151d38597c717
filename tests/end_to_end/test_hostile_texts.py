"""Test that no page executes or loads untrusted text: file names, captions, prompts, labels and reasons."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import pandas as pd
import pytest
import yaml

import comparison_example
import training_example
import viz
from clip_rows import clip_row, rejected_row
from hostile import TEXTS, watched
from mobius_pipeline.comparison.model import Comparison
from mobius_pipeline.comparison.notes import comparison_note, training_note
from mobius_pipeline.comparison.report import render_report
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking import ui
from mobius_pipeline.tracking.backend import page_of
from mobius_pipeline.validation.config import ValidateConfig
from mobius_pipeline.validation.expectations import validate_clips
from ports import free_port
from project import make_project

CLIP = ClipFormat(frames=8, height=32, width=32, fps=8)


def hostile_table() -> pd.DataFrame:
    """Return clips that pass and clips that fail, with a hostile text in each text column."""
    texts = list(enumerate(TEXTS))
    return pd.DataFrame(
        [
            *(
                clip_row(number, path=text, caption=text, codec=text, container=text)
                for number, text in texts
            ),
            *(clip_row(20 + number, path=f"b{text}", caption="", split=text) for number, text in texts),
            *(clip_row(number, path=f"c{text}", caption=text) for number, text in texts),  # duplicates
            *(rejected_row(number) | {"path": f"d{text}", "reason": text} for number, text in texts),
        ]
    )


def accepted_table() -> pd.DataFrame:
    """Return rows that are valid in any table, with a hostile text in each column that allows one."""

    def row(number: int, text: str) -> dict[str, Any]:
        name = f"{number:064x}"
        failures = [dict.fromkeys(("expectation", "column", "label", "observed", "required"), text)]
        texts = dict.fromkeys(("path", "caption", "codec", "container", "reason"), text)
        return clip_row(
            number,
            clip_id=name,
            source_sha256=name,
            captions=[text],
            warnings=failures,
            failures=failures,
            **texts,
        )

    return pd.DataFrame([row(number, text) for number, text in enumerate(TEXTS)])


@pytest.fixture(scope="module")
def data_docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data Docs of a hostile table with hostile settings; the run stops at the table's expectations."""
    work = tmp_path_factory.mktemp("work")
    section = yaml.safe_load(Path("conf/base/parameters_validate.yml").read_text())["validate"]
    of_values = {
        "expect_column_values_to_not_match_regex": {"regex": "<script>alert(1)|[<]img|elsewhere"},
        "expect_column_values_to_be_in_set": {"value_set": [*TEXTS[:2]]},
    }
    of_tables = {
        "expect_column_distinct_values_to_be_in_set": {"value_set": [*TEXTS[2:4]]},
        "expect_column_most_common_value_to_be_in_set": {"value_set": [*TEXTS[4:6]]},
    }
    asked = {
        key: [
            {"expect": kind, "column": "codec", "label": TEXTS[0], "action": action, **options}
            for kind, options in entries.items()
        ]
        for key, entries, action in (
            ("expectations", of_values, "warn"),
            ("table_expectations", of_tables, "stop"),
        )
    }
    shares = {"max_rejected_share": 1.0, "max_quarantined_share": 1.0}
    with pytest.raises(MobiusError, match="distinct"):
        validate_clips(hostile_table(), ValidateConfig(**section | asked | shares), CLIP, work)
    return work / "data_docs"


def test_no_page_of_the_data_docs_obeys_what_it_shows(browser: Any, data_docs: Path, artifacts: Path) -> None:
    pages = sorted(data_docs.rglob("*.html"))
    assert len(pages) == 1 + 5 + 5  # the index, expectations and results
    assert [path for path in data_docs.rglob("*") if path.is_file() and path not in pages] == []
    shown = ""
    for place, path in enumerate(pages):
        with watched(browser, path.as_uri()) as page:
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            shown += page.inner_text("body")
            assert page.locator("script, img, iframe, svg, link, object, embed").count() == 0
            assert page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")
            if place in (0, len(pages) - 1):  # the index and the results
                page.screenshot(path=artifacts / f"data-docs-{place:02}.png", full_page=True)
    assert [text for text in TEXTS if text not in shown] == []


def test_every_page_of_the_data_docs_is_reached_from_its_index(browser: Any, data_docs: Path) -> None:
    reached = {data_docs / "index.html"}
    waiting = list(reached)
    with watched(browser, data_docs.as_uri()) as page:
        while waiting:
            page.goto(waiting.pop().as_uri())
            links = page.eval_on_selector_all("a", "all => all.map(a => a.href.split('#')[0])")
            found = {Path(url2pathname(urlsplit(link).path)) for link in links} - reached
            reached |= found
            waiting += found
    assert reached == set(data_docs.rglob("*.html"))


def test_a_page_of_the_data_docs_runs_no_script_that_was_put_into_it(
    browser: Any, data_docs: Path, tmp_path: Path
) -> None:
    """The content security policy alone blocks a script that was not escaped."""
    smuggled = "".join(TEXTS[:3])
    path = tmp_path / "index.html"
    path.write_text((data_docs / "index.html").read_text().replace("<main>", f"<main>{smuggled}"))
    with watched(browser, path.as_uri()) as page:
        page.goto(path.as_uri())
        assert page.locator("script").count() > 0


def hostile_comparison() -> Comparison:
    """Return the example comparison with every user text replaced by a hostile one."""
    example = comparison_example.comparison()
    labels = dict(zip(example.columns, (TEXTS[5], TEXTS[7]), strict=True))
    by_text = json.dumps(example.model_dump())
    for name, text in {**labels, **dict(zip(comparison_example.PROMPTS, TEXTS, strict=False))}.items():
        by_text = by_text.replace(json.dumps(name), json.dumps(text))
    hostile: dict[str, Any] = json.loads(by_text)
    for column, mode in zip(hostile["columns"].values(), example.columns, strict=True):
        column["mode"] = mode
    hostile["provenance"] |= dict.fromkeys(("git", "experiment", "device"), " ".join(TEXTS))
    hostile["data"]["left_out"] = [
        {"label": text, "required": text, "observed": text, "clips": 1, "kept": False} for text in TEXTS
    ]
    hostile["run_pages"] = dict.fromkeys(hostile["run_pages"])
    return comparison_example.concluded(Comparison(**hostile))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, sample_media: Path) -> Path:
    path = tmp_path_factory.mktemp("report") / "comparison.html"
    path.write_text(render_report(hostile_comparison(), sample_media), encoding="utf-8")
    return path


def test_the_report_does_not_obey_what_it_shows(browser: Any, report: Path, artifacts: Path) -> None:
    with watched(browser, report.as_uri()) as page:
        page.goto(report.as_uri())
        shown = page.inner_text("body")
        assert [text for text in TEXTS if text not in shown] == []
        page.get_by_role("button", name="Pause all videos").click()  # the page's own script runs
        page.get_by_role("button", name="Play all videos").wait_for()
        assert page.locator("script").count() == 1
        page.screenshot(path=artifacts / "report-hostile.png", full_page=True)


def test_the_report_runs_no_script_that_was_put_into_it(browser: Any, report: Path, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    path.write_text(report.read_text().replace("<main>", f"<main>{''.join(TEXTS[:3])}"))
    # Videos are paused: each loop is a request, and on a busy machine they come faster than they are counted.
    with watched(browser, path.as_uri(), reduced_motion="reduce") as page:
        page.goto(path.as_uri())
        assert page.locator("script").count() == 2


TABLES = {
    "clip_table": "02_intermediate/clips.parquet",
    "manifest": "03_primary/manifest.parquet",
    "quarantine": "03_primary/quarantine.parquet",
}


@pytest.fixture(scope="module")
def kedro_viz(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[str]:
    """A Kedro-Viz that serves files with hostile texts."""
    project = tmp_path_factory.mktemp("viz") / "project"
    make_project(project, mlflow_template)
    for name in TABLES.values():
        path = project / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        accepted_table().to_parquet(path)
    files = project / "data/08_reporting/data_docs"
    files.mkdir(parents=True)
    for text in (TEXTS[1], TEXTS[2], TEXTS[3]):  # that can be names of files
        (files / text).touch()
    (files.parent / "comparison.json").write_text(hostile_comparison().model_dump_json())
    (files.parent / "serial").mkdir()
    rows = [{"step": step, **dict.fromkeys(TEXTS, step)} for step in (1, 2)]
    (files.parent / "serial/loss_curve.json").write_text(json.dumps(rows))
    with viz.serving(project) as address:
        yield address


# A part of each preview, by dataset.
PREVIEWS = {
    **dict.fromkeys((*TABLES, "data_docs"), ".preview-table"),
    "comparison": ".pipeline-metadata__preview-json",
    "serial.loss_curve": ".js-plotly-plot .scatterlayer .trace",
}


def test_no_preview_of_kedro_viz_obeys_what_it_shows(browser: Any, kedro_viz: str, artifacts: Path) -> None:
    """All previews are tested on one page, because loading Kedro-Viz takes seconds."""
    with watched(browser, kedro_viz, *viz.FONTS, viewport={"width": 1600, "height": 1000}) as page:
        graph = page.request.get(f"{kedro_viz}/api/main").json()
        nodes = {node["name"]: node["id"] for node in graph["nodes"]}
        for name, part in PREVIEWS.items():
            page.goto(f"{kedro_viz}/?pid=__default__&sid={nodes[name]}")
            page.locator(part).first.wait_for()
            page.get_by_role("button", name="Expand preview").click()
            page.wait_for_timeout(500)
            page.screenshot(path=artifacts / f"kedro-viz-hostile-{name}.png")
            assert page.locator("img[onerror], svg[onload], iframe[srcdoc]").count() == 0, name


@pytest.fixture(scope="module")
def mlflow_runs(
    tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path, report: Path
) -> Iterator[dict[str, str]]:
    """URLs of MLflow's pages of a comparison and of a training with hostile settings."""
    project = tmp_path_factory.mktemp("mlflow")
    (project / "mlruns").mkdir()
    shutil.copy(mlflow_template, project / "mlruns/mlflow.db")
    config = tracking.TrackingConfig(experiment="mobius", folder=Path("mlruns"))
    store = tracking.store_of(config, project)
    samples = project / "samples"
    samples.mkdir()
    for text in (TEXTS[1], TEXTS[2], TEXTS[3]):  # that can be names of files
        (samples / f"{text}.txt").write_text(text)
    (samples / "samples.json").write_text(json.dumps([{"prompt": text} for text in TEXTS]))
    (samples / "notes.md").write_text("\n\n".join(TEXTS))
    texts = {f"column {place}": text for place, text in enumerate(TEXTS)}
    hostile = training_example.description(model={"mode": TEXTS[7]}, devices=[TEXTS[5]])
    ids = {}
    try:
        tracking.configure(config, project)
        for name, note in (
            ("comparison", comparison_note(hostile_comparison())),
            ("training", training_note(hostile, training_example.metrics())),
        ):
            with tracking.comparison_run(name, params=texts, tags=texts, description=note) as run:
                run.log_artifact(report)
                run.log_artifact(samples, "samples")
                ids[name] = run.id
    finally:
        tracking.reset()
    port = free_port(5700)
    with ui.running_server(ui.ui_command(store, port), ui.ui_environment()) as server:
        ui.wait_until_up(server, port)
        experiment = tracking.experiment_id(store)
        yield {name: page_of(f"http://{tracking.HOST}:{port}", experiment, run) for name, run in ids.items()}


@pytest.mark.parametrize("run", ["comparison", "training"])
def test_no_page_of_mlflow_obeys_what_it_shows(
    browser: Any, mlflow_runs: dict[str, str], artifacts: Path, run: str
) -> None:
    address = mlflow_runs[run]
    own = address.split("/#")[0]
    with watched(browser, own, viewport={"width": 1600, "height": 1000}) as page:
        page.goto(f"{address}?workflowType=machine_learning")
        page.get_by_text("column 0").first.wait_for()
        page.wait_for_timeout(500)
        page.screenshot(path=artifacts / f"mlflow-hostile-{run}.png")
        for place, artifact in enumerate(
            ("comparison.html", "samples/samples.json", "samples/notes.md", f"samples/{TEXTS[1]}.txt")
        ):
            page.goto(f"{address}/artifacts/{quote(artifact)}?workflowType=machine_learning")
            page.wait_for_timeout(1500)
            page.screenshot(path=artifacts / f"mlflow-hostile-{run}-{place}.png")
