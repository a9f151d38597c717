"""Node of the `evaluate` pipelines of both modes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.result import TrainingResult

Curve = list[dict[str, float]]

_OF_CLIPS_OR_STEPS = ("history", "heldout_by_clip", "heldout_watched", "heldout_at_steps")


def evaluate(
    trained: TrainingResult,
    samples: SampleSet,
    latents: LatentsStore,
    base_model: BaseModel,
    evaluate: EvaluateConfig,
    work: Path,
) -> tuple[dict[str, Any], dict[str, Any], Curve, Curve]:
    """Score a mode's samples; record scores, samples and the training's record in its MLflow run.

    Returns:
        The mode's metrics, the most important of them, and the curves of training loss and held-out loss.
    """
    from mobius_pipeline.comparison import records
    from mobius_pipeline.comparison.curves import thinned
    from mobius_pipeline.comparison.notes import training_note
    from mobius_pipeline.evaluation.quality import quality, reference_features, vae_encoder
    from mobius_pipeline.tracking import api as tracking

    record, mode = records.record_of(trained, samples, {}), trained.mode
    tracking.check_run(record.metrics["run_id"], mode)

    encode = vae_encoder(base_model.folder)
    real = reference_features(latents, evaluate.reference_clips)
    measured = quality(samples.frames.numpy(), samples.prompts, real, encode, evaluate.seed)

    whole = replace(record, metrics={**record.metrics, "quality": measured})
    with tracking.attached_run(whole.metrics["run_id"], mode) as run:
        numbers = {name: value for name, value in measured.items() if isinstance(value, float)}
        run.log_metrics({f"quality/{name}": value for name, value in numbers.items()})
        run.log_artifact(samples.folder, records.SAMPLES)
        run.describe(training_note(mode, whole.metrics, whole.config, measured))
        whole = replace(whole, metrics={**whole.metrics, "run_id": run.id})
        run.log_artifact(records.write_record(work / "records" / mode, whole), records.FOLDER)
    history = thinned(whole.metrics["history"])
    metrics = in_tables(whole.metrics)
    return metrics, figures(mode, metrics), curve(history["loss"]), curve(history["heldout"])


def in_tables(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics for DVC's tables, without those by clip or step."""
    whole = {key: value for key, value in metrics.items() if key not in _OF_CLIPS_OR_STEPS}
    at_steps = metrics["heldout_at_steps"]
    return {**whole, "heldout_loss_at_steps": at_steps and at_steps["loss"]}


def figures(mode: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the main figures of a mode: its costs, losses and prompt match.

    They are nested under the mode's name, so that their keys are unique: `dvc exp show` names a column by its
    key, but prepends the file's path if other files have the same key.
    """
    loss, at_steps = metrics["heldout_loss"], metrics["heldout_loss_at_steps"]
    return {
        mode: {
            "peak_gib": metrics["peak_memory_bytes"] / 2**30,
            "step_s": metrics["step_s"],
            "loss_at_steps": loss if at_steps is None else at_steps,
            "loss": loss,
            "match": metrics["quality"].get("prompt_match"),
        }
    }


def curve(history: Sequence[Sequence[float]]) -> Curve:
    """Return rows of step and loss; all have the same keys, as `dvc plots` requires."""
    return [{"step": step, "loss": value} for step, value, _ in history]
