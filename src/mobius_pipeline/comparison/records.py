"""Keep evaluated trainings as records in their MLflow runs, and group them into the comparison's columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobius_pipeline.comparison.trainings import Columns, Record, Training
from mobius_pipeline.evaluation.scores import Quality, RecordedQuality
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import digest, read_document, write_json
from mobius_pipeline.runtime.mappings import flatten
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.layout import METRICS, TRAINING
from mobius_pipeline.training.metrics import Metrics
from mobius_pipeline.training.result import TrainingResult

FOLDER, SAMPLES = "record", "samples"  # folders in a run's artifacts
_FOLLOWS = "train.last_step"  # with `train.equal_compute` it follows from the model
_RECORDED = (
    "Sample and evaluate that training while it is the one in data/06_models (`kedro run "
    "--pipelines=sample_<mode>,evaluate_<mode>`), or leave its run out of compare.runs."
)
MOST_COLUMNS = 8  # as many as the report has colours for


class Evaluated(Metrics):
    """Contents of a record's `metrics.json`."""

    run_id: str
    quality: RecordedQuality


def record_of(trained: TrainingResult, samples: SampleSet, run_id: str, quality: Quality) -> Record:
    """Return the record of a finished training in `data/`, with the run and the scores of its evaluation."""
    return Record(trained.description, trained.metrics, run_id, quality, samples)


def write_record(folder: Path, record: Record) -> Path:
    """Write a record for `read_record`, without the samples."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = Evaluated(**dict(record.metrics) | {"run_id": record.run_id, "quality": record.quality})
    write_json(folder / TRAINING, record.description.model_dump(mode="json"))
    write_json(folder / METRICS, metrics.model_dump(mode="json"))
    return folder


def read_record(artifacts: Path) -> Record:
    """Read a record from the artifacts of a run.

    Raises:
        MobiusError: If there is no record (the training was never evaluated), or it is damaged.
    """
    folder, remedy = artifacts / FOLDER, _RECORDED
    if not (folder / TRAINING).is_file():
        raise MobiusError(f"There is no record of an evaluation in {artifacts}. {remedy}")
    description = read_document(folder / TRAINING, Description, remedy)
    metrics = read_document(folder / METRICS, Evaluated, remedy)
    return Record(
        description, metrics, metrics.run_id, metrics.quality, SampleSet(artifacts / SAMPLES, remedy)
    )


def columns(records: Sequence[Record]) -> Columns:
    """Group trainings that differ only in their seed; label each group by the settings that distinguish it.

    The label is the mode and, if a mode has several groups, every setting in which they differ. Groups are
    in the order of their first record; a seed that was trained twice counts twice.

    Raises:
        MobiusError: If there are fewer than two groups, or more than the report has colours for.
    """
    settings = [dict(flatten(_settings(record))) for record in records]
    groups: dict[str, list[int]] = {}
    for index, setting in enumerate(settings):
        groups.setdefault(digest(setting), []).append(index)
    if not 2 <= len(groups) <= MOST_COLUMNS:
        raise MobiusError(
            f"{len(records)} trainings were chosen, which make {len(groups)} columns (those that differ "
            f"only in their seed share one); a comparison has 2 to {MOST_COLUMNS}. Correct compare.runs or "
            "compare.filter."
        )
    firsts = [settings[indices[0]] for indices in groups.values()]
    return {
        _label(setting, firsts): [records[index] for index in indices]
        for setting, indices in zip(firsts, groups.values(), strict=True)
    }


def _settings(training: Training) -> dict[str, Any]:
    """Return everything that a training depends on, except its seed."""
    found = training.description.model_dump(exclude={"devices", "runtime"})
    del found["train"]["seed"]
    del found["fingerprints"]["config"]  # a digest of model and train, the seed included
    return found


def _label(setting: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    alike = [other for other in others if other["model.mode"] == setting["model.mode"]]
    keys = dict.fromkeys(key for other in alike for key in other)
    differing = [key for key in keys if len({digest(other.get(key)) for other in alike}) > 1]
    if len(differing) > 1 and _FOLLOWS in differing:
        differing.remove(_FOLLOWS)
    words = [f"{key.rpartition('.')[2].replace('_', ' ')} {_value(setting.get(key))}" for key in differing]
    return f"{setting['model.mode']} ({', '.join(words)})" if words else str(setting["model.mode"])


def _value(value: Any) -> str:
    """Return a setting's value for a label; digests are shortened."""
    if isinstance(value, str):
        return value[:8] if len(value) == 64 else value
    return json.dumps(value)
