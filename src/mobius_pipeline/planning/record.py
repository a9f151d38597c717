"""Record a plan as an MLflow run in the trainings' experiment."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from mobius_pipeline.planning.model import Plan
from mobius_pipeline.planning.timing import duration, money
from mobius_pipeline.runtime.files import write_json
from mobius_pipeline.tracking import api as tracking


def record_plan(plan: Plan) -> None:
    """Record ratios, sizes and the whole plan; outside a project, nothing is recorded."""
    params = {
        "step": asdict(plan.step),
        "predicted_peak_gib": {name: mode.predicted_peak_gib for name, mode in plan.modes.items()},
    }
    run = tracking.comparison_run("plan", params=params, tags={"kind": "plan"}, description=_note(plan))
    with run as record, TemporaryDirectory() as folder:
        ratios = plan.parallel_over_serial.model_dump()
        record.log_metrics({f"ratio/{key}": value for key, value in ratios.items()})
        record.log_metrics(_times(plan))
        path = Path(folder) / "plan.json"
        write_json(path, plan.model_dump(mode="json"))
        record.log_artifact(path)


def _times(plan: Plan) -> dict[str, float]:
    """Return step time, hours and cost of each mode; empty if no device was named."""
    times = {
        mode: row.time.model_dump(include={"step_s", "hours", "cost"})
        for mode, row in plan.modes.items()
        if row.time
    }
    return {f"predicted/{mode}_{key}": value for mode, time in times.items() for key, value in time.items()}


def _note(plan: Plan) -> str:
    ratio = plan.parallel_over_serial
    peak, flops, trainable = (
        f"{100 * (share - 1):+.1f}%" for share in (ratio.peak, ratio.flops, ratio.trainable)
    )
    compared = (
        f"Predicted without training, parallel against serial: memory {peak}, FLOPs of a step {flops}, "
        f"trainable parameters {trainable}."
    )
    return " ".join([compared, *_in_words(plan), "Artifacts: `plan.json`."])


def _in_words(plan: Plan) -> list[str]:
    """Return a sentence per mode: the hours of its training on the device, and their cost."""
    if plan.timing is None:
        return []
    device, price = plan.timing.device.name, plan.timing.price_per_hour
    return [
        f"{mode} takes {duration(time.hours)} for {time.steps:,} steps on {device}"
        + ("." if time.cost is None else f", which costs {money(time.cost)} at {price:g} per hour.")
        for mode, time in ((mode, row.time) for mode, row in plan.modes.items())
        if time is not None
    ]
