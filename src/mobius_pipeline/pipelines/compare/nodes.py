"""The comparison's nodes."""

from pathlib import Path
from typing import Any

from mobius_pipeline.evaluation.config import CompareConfig, EvaluateConfig
from mobius_pipeline.ingest.clip_table import Manifest, Quarantine
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.scratch import unpublished


def compare(
    serial_weights: Path,
    parallel_weights: Path,
    serial_samples: Path,
    parallel_samples: Path,
    serial_metrics: dict[str, Any],
    parallel_metrics: dict[str, Any],
    manifest: Manifest,
    quarantine: Quarantine,
    raw_clips: Path,
    base_model: Path,
    latents: Path,
    evaluate: EvaluateConfig,
    compare: CompareConfig,
    clip: ClipFormat,
    magnify: int,
    work: Path,
) -> tuple[dict[str, Any], list[dict[str, Any]], Path]:
    """Put trainings beside each other and the references: both modes' newest, or those that were chosen.

    Returns:
        The comparison; its costs, a row a column; and a folder with the prompts' real clips, written as the
        samples are.
    """
    from mobius_pipeline.comparison.comparison import compare_trainings, costs, write_real_videos
    from mobius_pipeline.comparison.records import columns, read_record, record_of
    from mobius_pipeline.latents.store import LatentsStore
    from mobius_pipeline.tracking import api as tracking
    from mobius_pipeline.tracking.git import describe

    if compare.chooses:
        records = [read_record(run) for run in tracking.recorded_trainings(compare.runs, compare.filter)]
    else:
        records = [
            record_of(serial_weights, serial_samples, serial_metrics),
            record_of(parallel_weights, parallel_samples, parallel_metrics),
        ]
    grouped = columns(records)
    real, videos = write_real_videos(
        records[0].samples, manifest.rows, raw_clips, clip, magnify, unpublished(work / "real")
    )
    comparison = compare_trainings(
        grouped,
        manifest.rows,
        quarantine.rows,
        raw_clips,
        base_model,
        LatentsStore(latents),
        clip,
        evaluate,
        compare.paired_steps,
        serial_samples.parent,
        {
            "experiment": tracking.experiment_name(),
            "git": describe(tracking.project()),
            **tracking.dvc_tags(tracking.project()),
        },
    )
    pages = {run: tracking.run_page(run) for run in (record.metrics["run_id"] for record in records)}
    return {**comparison, "real": real, "run_pages": pages}, costs(comparison), videos


def report(comparison: dict[str, Any], real_videos: Path, work: Path) -> str:
    """Render the comparison as one HTML page and record it in a run of its own.

    Step times that were measured in turns are written into the runs of the trainings, too.
    """
    from mobius_pipeline.comparison.notes import comparison_note
    from mobius_pipeline.comparison.report import render_report
    from mobius_pipeline.tracking import api as tracking

    html = render_report(comparison, real_videos.parent)
    first, *others = comparison["columns"]
    params = {
        f"column {place}": f"{label}: {' '.join(column['run_ids'])}"
        for place, (label, column) in enumerate(comparison["columns"].items(), start=1)
    }
    tags = {"verdict": comparison["verdict"], "compared": " | ".join([first, *others])}
    note = comparison_note(comparison)
    if comparison["paired_step_times"]:  # what runs show of a step's time is what their comparison says
        for column in comparison["columns"].values():
            for run_id in column["run_ids"]:
                tracking.log_later(run_id, column["mode"], {"time/step_s": column["step_s"]})
    with tracking.comparison_run(params=params, tags=tags, description=note) as run:
        if len(others) == 1:  # ratios of several would need the columns' names in their keys
            relative = comparison["relative_percent"][others[0]]
            run.log_metrics(
                {f"relative/{name}": value for name, value in relative.items() if value is not None}
            )
        page = work / "comparison.html"
        page.write_text(html, encoding="utf-8")
        run.log_artifact(page)
    return html
