"""Record a plan as an MLflow run in the trainings' experiment."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mobius_pipeline.planning.timing import duration, money
from mobius_pipeline.runtime.files import write_json
from mobius_pipeline.tracking import api as tracking


def record_plan(report: Mapping[str, Any]) -> None:
    """Record ratios, sizes and the whole report; outside a project, nothing is recorded."""
    params = {
        "step": report["step"],
        "predicted_peak_gib": {name: mode["predicted_peak_gib"] for name, mode in report["modes"].items()},
    }
    run = tracking.comparison_run("plan", params=params, tags={"kind": "plan"}, description=_note(report))
    with run as record, TemporaryDirectory() as folder:
        record.log_metrics({f"ratio/{key}": value for key, value in report["parallel_over_serial"].items()})
        record.log_metrics(_times(report))
        path = Path(folder) / "plan.json"
        write_json(path, report)
        record.log_artifact(path)


def _times(report: Mapping[str, Any]) -> dict[str, float]:
    """Return step time, hours and cost of each mode; empty if no device was named."""
    if "timing" not in report:
        return {}
    keys = ("step_s", "hours") if report["timing"]["price_per_hour"] is None else ("step_s", "hours", "cost")
    return {f"predicted/{mode}_{key}": row[key] for mode, row in report["modes"].items() for key in keys}


def _note(report: Mapping[str, Any]) -> str:
    changes = {name: f"{100 * (ratio - 1):+.1f}%" for name, ratio in report["parallel_over_serial"].items()}
    compared = (
        f"Predicted without training, parallel against serial: memory {changes['peak']}, FLOPs of a step "
        f"{changes['flops']}, trainable parameters {changes['trainable']}."
    )
    return " ".join([compared, *_in_words(report), "Artifacts: `plan.json`."])


def _in_words(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence per mode: the hours of its training on the device, and their cost."""
    if "timing" not in report:
        return []
    device, price = report["timing"]["device"]["name"], report["timing"]["price_per_hour"]
    return [
        f"{mode} takes {duration(row['hours'])} for {row['steps']:,} steps on {device}"
        + ("." if price is None else f", which costs {money(row['cost'])} at {price:g} per hour.")
        for mode, row in report["modes"].items()
    ]
