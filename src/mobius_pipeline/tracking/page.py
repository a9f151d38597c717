"""Content of the experiment's page in MLflow: its description, and a saved view of columns and charts."""

import json
import time
from collections.abc import Mapping
from typing import Any

NOTE = "mlflow.note.content"  # the tag that MLflow shows as the description, in Markdown
VIEW = "serial-and-parallel"  # the view's key: `?viewStateShareKey=` in the page's address opens it
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # where MLflow stores the views of its menu "Views"
_NOTE = (
    "**serial** and **parallel** are two ways to make a text-to-video model from a text-to-image model, "
    "from the same start, data and draws. The columns show memory, time and held-out loss of both, the chart "
    "view overlays their curves. **comparison** holds the report, **plan** the prediction without training."
)
_METRICS = ("memory/peak_gib", "time/step_s", "eval/loss_start", "eval/loss", "quality/prompt_match")
# px; in a window of 1600 px, all metrics fit beside the panel that MLflow opens at the first visit
_WIDTHS = {"attributes.`Run Name`": 120, "runDateAndNestInfo": 100}
_METRIC_WIDTH = 126
_BARS = {
    "Cost": ("memory/peak_gib", "time/step_s", "time/training_s"),
    "Learning": ("eval/loss",),
    "Samples": ("quality/prompt_match", "quality/frechet", "quality/dynamic_degree"),
}
_LINES = {"Learning": ("heldout_loss", "loss")}


def experiment_tags() -> dict[str, str]:
    """Return the experiment's description, and the view that `mobius ui` opens, as tags of the experiment."""
    now = time.time_ns() // 1_000_000
    view = {"name": "Serial and parallel", "createdAt": now, "updatedAt": now, "state": json.dumps(_state())}
    return {NOTE: _NOTE, _VIEW_TAG: json.dumps(view)}


def _state() -> dict[str, Any]:
    """Return the part of the page's state that differs from its defaults; the page fills in the rest."""
    metrics = [f"metrics.`{key}`" for key in _METRICS]
    order = ["attributes.`Run Name`", "runDateAndNestInfo", *metrics, "attributes.`Description`"]
    return {
        "selectedColumns": [*metrics, "attributes.`Description`", "attributes.`Source`"],
        "columnOrder": [*order, "duration", "attributes.`Source`"],
        "columnWidths": {**_WIDTHS, **dict.fromkeys(metrics, _METRIC_WIDTH)},
        "compareRunCharts": [
            chart
            for section in _BARS
            for chart in (
                *(_chart("LINE", key, section) for key in _LINES.get(section, ())),
                *(_chart("BAR", key, section) for key in _BARS[section]),
            )
        ],
        "compareRunSections": [_section(name) for name in _BARS],
        "isAccordionReordered": True,  # else the sections are sorted by name
    }


def _section(name: str) -> Mapping[str, Any]:
    shown = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": name, "name": name, **shown}


def _chart(kind: str, key: str, section: str) -> Mapping[str, Any]:
    chart = {
        "uuid": f"{section} {key}",
        "type": kind,
        "metricKey": key,
        "metricSectionId": section,
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": False,
    }
    return chart if kind == "BAR" else {**chart, **_LINE, "selectedMetricKeys": [key]}


_LINE = {
    "lineSmoothness": 0,
    "scaleType": "linear",
    "xAxisScaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}
