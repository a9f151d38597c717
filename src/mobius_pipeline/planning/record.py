"""The plan as a run in MLflow, beside the trainings that it foretells."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mobius_pipeline.runtime.files import write_json
from mobius_pipeline.tracking import api as tracking


def record_plan(report: Mapping[str, Any]) -> None:
    """Record ratios, sizes and the whole report; nothing where no project is configured."""
    params = {
        "step": report["step"],
        "predicted_peak_gib": {name: mode["predicted_peak_gib"] for name, mode in report["modes"].items()},
    }
    run = tracking.comparison_run("plan", params=params, tags={"kind": "plan"}, description=_note(report))
    with run as record, TemporaryDirectory() as folder:
        record.log_metrics({f"ratio/{key}": value for key, value in report["parallel_over_serial"].items()})
        path = Path(folder) / "plan.json"
        write_json(path, report)
        record.log_artifact(path)


def _note(report: Mapping[str, Any]) -> str:
    changes = {name: f"{100 * (ratio - 1):+.1f}%" for name, ratio in report["parallel_over_serial"].items()}
    return (
        f"Predicted without training, parallel against serial: memory {changes['peak']}, FLOPs of a step "
        f"{changes['flops']}, trainable parameters {changes['trainable']}. Artifacts: `plan.json`."
    )
