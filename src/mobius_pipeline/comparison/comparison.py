"""Compare evaluated trainings: a column of figures for each, all relative to the first."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mobius_pipeline.comparison.columns import column
from mobius_pipeline.comparison.model import (
    Change,
    Comparison,
    Data,
    Fairness,
    Findings,
    Provenance,
    References,
    Start,
    StepTimes,
)
from mobius_pipeline.comparison.points import points
from mobius_pipeline.comparison.summary import relative_percent
from mobius_pipeline.comparison.trainings import Columns, Training
from mobius_pipeline.comparison.uncertainty import paired_change

# What must be the same in all columns for a fair comparison: name in the report -> keys of `Description`.
_FAIR = {
    "same_base": ["fingerprints.base"],
    "same_data": ["fingerprints.data"],
    "same_draws": ["train.batch_size", "train.objective"],
    "same_steps": ["train.steps", "forked_at"],
    "same_optimizer": ["train.optimizer", "train.ema_decay", "train.ema_warmup_power"],
    "same_precision": ["train.autocast", "train.optimizer.state_bits"],
    "same_device": ["devices", "processes"],
}


def compare_trainings(
    trainings: Columns,
    step_times: StepTimes,
    references: References,
    data: Data,
    media: Path,
    provenance: Mapping[str, str],
) -> Findings:
    """Compare columns of trainings with the first column.

    Args:
        trainings: Two or more columns, from `records.columns`.
        step_times: Step times of all columns, measured in turns, or of none.
        references: Scores of real clips, still frames and random clips.
        data: Summary of the clips.
        media: Folder that the paths of samples in the result are relative to.
        provenance: Origin of the code and the runs; device, versions and time are added.
    """
    columns = {
        label: column(records, step_times.columns.get(label), media) for label, records in trainings.items()
    }
    first, *others = columns
    reached = points(trainings, {label: one.step_s for label, one in columns.items()})
    return Findings(
        start=Start(heldout_loss=columns[first].heldout_loss_start),
        heldout_change={label: heldout_change(records) for label, records in trainings.items()},
        points=reached,
        columns=columns,
        paired_step_times=bool(step_times.columns),
        timing_note=step_times.note,
        references=references,
        relative_percent={
            label: relative_percent(columns[first], columns[label], reached, label) for label in others
        },
        data=data,
        fairness=fairness(trainings),
        provenance=Provenance(**provenance, **_environment(trainings[first][0].description.devices[-1])),
    )


def costs(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the costs and the held-out loss of each column, one row per column, for `dvc plots`."""
    return [
        {
            "training": label,
            "peak_memory_mib": column.peak_memory_bytes / 2**20,
            "step_ms": column.step_s * 1e3,
            "training_s": column.training_s,
            "heldout_loss": column.heldout_loss,
        }
        for label, column in comparison.columns.items()
    ]


def heldout_change(trainings: Sequence[Training]) -> Change:
    """Return the change of the held-out loss in training, paired by seed if several, otherwise by clip."""
    metrics = [one.metrics for one in trainings]
    if len(metrics) > 1:
        starts = {str(index): one.heldout_loss_start for index, one in enumerate(metrics)}
        ends = {str(index): one.heldout_loss for index, one in enumerate(metrics)}
        return paired_change(starts, ends, over="seeds")
    return paired_change(metrics[0].heldout_by_clip.start, metrics[0].heldout_by_clip.end, over="clips")


def fairness(trainings: Columns) -> Fairness:
    """Return which of the settings in `_FAIR` are the same in all columns."""
    first, *others = (records[0].description.model_dump() for records in trainings.values())
    agree = {
        name: all(_at(first, key) == _at(other, key) for other in others for key in keys)
        for name, keys in _FAIR.items()
    }
    seeds = [sorted(record.seed for record in records) for records in trainings.values()]
    same_seeds = all(one == seeds[0] for one in seeds)
    return Fairness(**agree | {"same_draws": agree["same_draws"] and same_seeds})


def _at(config: Mapping[str, Any], key: str) -> Any:
    """Return the setting of this name; None if the training's version had no such setting."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _environment(device: str) -> dict[str, str]:
    name = (
        torch.cuda.get_device_name(device)
        if device.startswith("cuda") and torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return {
        "device": name,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "diffusers", "kedro", "mlflow", "dvc")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
