"""The comparison's nodes."""

from pathlib import Path
from typing import Any

import pandas as pd

from mobius_pipeline.config import ClipFormat
from mobius_pipeline.evaluation.config import EvaluateConfig


def compare(
    serial_weights: Path,
    parallel_weights: Path,
    serial_samples: Path,
    parallel_samples: Path,
    serial_metrics: dict[str, Any],
    parallel_metrics: dict[str, Any],
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    raw_clips: Path,
    base_model: Path,
    latents: Path,
    evaluate: EvaluateConfig,
    clip: ClipFormat,
    magnify: int,
    work: str,
) -> tuple[dict[str, Any], Path]:
    """Put both modes beside each other and the references.

    Returns:
        The comparison, and a folder with the prompts' real clips, written as the samples are.
    """
    from mobius_pipeline import tracking
    from mobius_pipeline.evaluation.comparison import compare_modes, write_real_videos
    from mobius_pipeline.latents.store import LatentsStore
    from mobius_pipeline.revision import describe

    real, videos = write_real_videos(serial_samples, raw_clips, clip, magnify, Path(work) / "real")
    comparison = compare_modes(
        {"serial": serial_weights, "parallel": parallel_weights},
        {"serial": serial_samples, "parallel": parallel_samples},
        {"serial": serial_metrics, "parallel": parallel_metrics},
        manifest,
        quarantine,
        raw_clips,
        base_model,
        LatentsStore(latents),
        clip,
        evaluate,
        {"git": describe(Path.cwd()), "experiment": tracking.experiment_name()},
    )
    return {**comparison, "real": real}, videos


def report(comparison: dict[str, Any], real_videos: Path, work: str) -> str:
    """Render the comparison as one HTML page and record it in a run of its own."""
    from mobius_pipeline import tracking
    from mobius_pipeline.evaluation.report import render_report
    from mobius_pipeline.pipelines.notes import comparison_note

    html = render_report(comparison, real_videos.parent)
    relative = {
        f"relative/{name}": value
        for name, value in comparison["relative_percent"].items()
        if value is not None
    }
    runs = {f"run.{mode}": figures["run_id"] for mode, figures in comparison["modes"].items()}
    note, verdict = comparison_note(comparison), comparison["verdict"]
    with tracking.comparison_run(params=runs, tags={"verdict": verdict}, description=note) as run:
        run.log_metrics(relative)
        page = Path(work) / "comparison.html"
        page.write_text(html, encoding="utf-8")
        run.log_artifact(page)
    return html
