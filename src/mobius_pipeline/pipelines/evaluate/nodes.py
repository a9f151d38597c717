"""The evaluation's node: one for both modes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mobius_pipeline.config import ClipFormat
from mobius_pipeline.evaluation.config import EvaluateConfig

Curve = list[dict[str, float]]

_OF_CLIPS_OR_STEPS = ("history", "heldout_by_clip", "heldout_watched", "heldout_at_steps")


def evaluate(
    weights: Path,
    samples: Path,
    manifest: pd.DataFrame,
    raw_clips: Path,
    base_model: Path,
    evaluate: EvaluateConfig,
    clip: ClipFormat,
    work: Path,
) -> tuple[dict[str, Any], Curve, Curve]:
    """Measure a mode's samples and write them, with its figures, into the run of its training.

    Returns:
        The mode's metrics, and the curves of its training and held-out loss.
    """
    from mobius_pipeline import tracking
    from mobius_pipeline.evaluation import records
    from mobius_pipeline.evaluation.quality import load_videos, quality, reference_paths, vae_encoder
    from mobius_pipeline.evaluation.video_metrics import video_features
    from mobius_pipeline.pipelines.notes import training_note
    from mobius_pipeline.sampling.run import read_samples

    listing, frames = read_samples(samples)
    encode = vae_encoder(base_model)
    paths = reference_paths(manifest, clip.frames, evaluate.reference_clips)
    real = video_features(load_videos(raw_clips, paths, clip, "evaluate: real clips"), encode)
    measured = quality(frames.numpy(), [sample.prompt for sample in listing], real, encode, evaluate.seed)

    whole = records.record_of(weights, samples, {"quality": measured})
    with tracking.attached_run(whole.metrics["run_id"], weights.name) as run:
        numbers = {name: value for name, value in measured.items() if isinstance(value, float)}
        run.log_metrics({f"quality/{name}": value for name, value in numbers.items()})
        run.log_artifact(samples, records.SAMPLES)
        run.describe(training_note(weights.name, whole.metrics, whole.config, measured))
        whole = replace(whole, metrics={**whole.metrics, "run_id": run.id})
        run.log_artifact(records.write_record(work / "records" / weights.name, whole), records.FOLDER)
    history = whole.metrics["history"]
    return in_tables(whole.metrics), curve(history["loss"]), curve(history["heldout"])


def in_tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics for DVC's tables: none of every clip or step."""
    whole = {key: value for key, value in metrics.items() if key not in _OF_CLIPS_OR_STEPS}
    at_steps = metrics["heldout_at_steps"]
    return {**whole, "heldout_loss_at_steps": at_steps and at_steps["loss"]}


def curve(history: list[tuple[int, float, float]]) -> Curve:
    """Rows of step and loss, every row with the same keys: `dvc plots` draws no others."""
    return [{"step": step, "loss": value} for step, value, _ in history]
