"""Nodes of the `compare` pipeline."""

from pathlib import Path
from typing import Any

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.model import Comparison, Data, References, StepTimes
from mobius_pipeline.comparison.trainings import Columns, first_samples
from mobius_pipeline.evaluation.config import CompareConfig, EvaluateConfig
from mobius_pipeline.evaluation.evaluation import Evaluation
from mobius_pipeline.ingest.clip_table import Manifest, Quarantine
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.result import TrainingResult


def choose_trainings(
    serial: TrainingResult,
    serial_samples: SampleSet,
    serial_metrics: Evaluation,
    parallel: TrainingResult,
    parallel_samples: SampleSet,
    parallel_metrics: Evaluation,
    compare: CompareConfig,
) -> Columns:
    """Return the trainings to compare, in columns: those in `data/`, or those that `compare` chooses.

    Raises:
        MobiusError: If files or runs are missing, damaged or of another mode.
    """
    from mobius_pipeline.comparison.records import columns, read_record, record_of
    from mobius_pipeline.tracking import api as tracking

    if compare.chooses:
        records = [read_record(run) for run in tracking.recorded_trainings(compare.runs, compare.filter)]
        for record in records:
            SampleSet.load(record.samples.folder)
    else:
        records = [
            record_of(serial, serial_samples, serial_metrics.run_id, serial_metrics.quality),
            record_of(parallel, parallel_samples, parallel_metrics.run_id, parallel_metrics.quality),
        ]
    for record in records:
        tracking.check_run(record.run_id, record.description.mode, "its later metrics are not recorded")
    return columns(records)


def time_steps(
    trainings: Columns, latents: LatentsStore, base_model: BaseModel, compare: CompareConfig
) -> StepTimes:
    """Time steps of all columns in turns."""
    from mobius_pipeline.comparison.timing import time_columns

    return time_columns(trainings, latents, base_model, compare.paired_steps)


def measure_references(
    trainings: Columns,
    latents: LatentsStore,
    raw_clips: Path,
    base_model: BaseModel,
    evaluate: EvaluateConfig,
) -> References:
    """Score real, still and random clips for the first column's prompts."""
    from mobius_pipeline.comparison import references

    return references.measure_references(first_samples(trainings), latents, raw_clips, base_model, evaluate)


def write_real_videos(
    trainings: Columns, latents: LatentsStore, raw_clips: Path, magnify: int, work: Path
) -> Path:
    """Write the real clips of the first column's prompts as videos, like its samples."""
    from mobius_pipeline.comparison import references

    target = unpublished(work / "real_videos")
    return references.write_real_videos(first_samples(trainings), latents, raw_clips, magnify, target)


def summarize_data(trainings: Columns, manifest: Manifest, quarantine: Quarantine) -> Data:
    """Count the clips, and those left out by reason."""
    from mobius_pipeline.comparison.quarantine_summary import data_summary

    (first, *_), *_ = trainings.values()
    return data_summary(manifest.rows, quarantine.rows, first.description.fingerprints.data)


def compare(
    trainings: Columns,
    step_times: StepTimes,
    references: References,
    data_summary: Data,
    real_videos: Path,
    media: Path,
) -> tuple[Comparison, list[dict[str, Any]]]:
    """Compare the columns with each other and with the references.

    Returns:
        The comparison, and its costs with one row per column.
    """
    from mobius_pipeline.comparison.comparison import compare_trainings, costs
    from mobius_pipeline.comparison.references import real_videos as videos_of
    from mobius_pipeline.comparison.verdict import verdict
    from mobius_pipeline.tracking import api as tracking
    from mobius_pipeline.tracking.git import describe

    provenance = {
        "experiment": tracking.experiment_name(),
        "git": describe(tracking.project()),
        **tracking.dvc_tags(tracking.project()),
    }
    found = compare_trainings(trainings, step_times, references, data_summary, media, provenance)
    runs = [run for column in found.columns.values() for run in column.run_ids]
    comparison = Comparison(
        **dict(found),
        verdict=verdict(found),
        real=videos_of(first_samples(trainings), real_videos, media),
        run_pages={run: tracking.run_page(run) for run in runs},
    )
    return comparison, costs(comparison)


def report(comparison: Comparison, media: Path, work: Path) -> str:
    """Render the comparison as one HTML page and record it as an MLflow run.

    Step times measured in turns are also written into the runs of the trainings.
    """
    from mobius_pipeline.comparison.notes import comparison_note
    from mobius_pipeline.comparison.report import render_report
    from mobius_pipeline.tracking import api as tracking

    html = render_report(comparison, media)
    params = {
        f"column {place}": f"{label}: {' '.join(column.run_ids)}"
        for place, (label, column) in enumerate(comparison.columns.items(), start=1)
    }
    tags = {"verdict": comparison.verdict, "compared": " | ".join(comparison.columns)}
    note = comparison_note(comparison)
    if comparison.paired_step_times:  # so that the runs show the same step times as the comparison
        for column in comparison.columns.values():
            for run_id in column.run_ids:
                tracking.log_later(run_id, column.mode, {"time/step_s": column.step_s})
    with tracking.comparison_run(params=params, tags=tags, description=note) as run:
        if len(comparison.others) == 1:  # with more columns, the keys would need their names
            (relative,) = comparison.relative_percent.values()
            run.log_metrics({f"relative/{name}": value for name, value in relative if value is not None})
        page = work / "comparison.html"
        page.write_text(html, encoding="utf-8")
        run.log_artifact(page)
    return html
