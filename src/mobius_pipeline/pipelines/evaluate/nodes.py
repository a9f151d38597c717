"""The evaluation's node: one for both modes."""

from pathlib import Path
from typing import Any

import pandas as pd

from mobius_pipeline.config import ClipFormat
from mobius_pipeline.evaluation.config import EvaluateConfig


def evaluate(
    weights: Path,
    samples: Path,
    manifest: pd.DataFrame,
    raw_clips: Path,
    base_model: Path,
    evaluate: EvaluateConfig,
    clip: ClipFormat,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Measure a mode's samples and write them, with its figures, into the run of its training.

    Returns:
        The mode's metrics, and its loss curve as rows of step, loss, held-out loss.
    """
    from mobius_pipeline import tracking
    from mobius_pipeline.evaluation.quality import load_videos, quality, reference_paths, vae_encoder
    from mobius_pipeline.evaluation.video_metrics import video_features
    from mobius_pipeline.files import read_json
    from mobius_pipeline.pipelines.notes import training_note
    from mobius_pipeline.sampling.run import read_samples
    from mobius_pipeline.training.claim import CONFIG
    from mobius_pipeline.training.run import read_metrics

    trained = read_metrics(weights)
    history = trained.pop("history")
    del trained["heldout_by_clip"]  # a metric of every clip is none for DVC's tables
    listing, frames = read_samples(samples)
    encode = vae_encoder(base_model)
    paths = reference_paths(manifest, clip.frames, evaluate.reference_clips)
    real = video_features(load_videos(raw_clips, paths, clip, "evaluate: real clips"), encode)
    measured = quality(frames.numpy(), [sample.prompt for sample in listing], real, encode, evaluate.seed)

    with tracking.attached_run(trained["run_id"], weights.name) as run:
        numbers = {name: value for name, value in measured.items() if isinstance(value, float)}
        run.log_metrics({f"quality/{name}": value for name, value in numbers.items()})
        run.log_artifact(samples, "samples")
        run.describe(training_note(weights.name, trained, read_json(weights / CONFIG), measured))
        run_id = run.id
    return {**trained, "run_id": run_id, "quality": measured}, loss_curve(history)


def loss_curve(history: dict[str, list[tuple[int, float, float]]]) -> list[dict[str, float]]:
    """Rows of step, loss and, where it was measured, held-out loss; what `dvc plots` draws."""
    heldout = {step: value for step, value, _ in history["heldout"]}
    rows: list[dict[str, float]] = []
    for step, value, _ in history["loss"]:
        rows.append({"step": step, "loss": value, **({"heldout": heldout[step]} if step in heldout else {})})
    return rows
