"""The evaluation's node: one for both modes."""

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
    """Measure a mode's samples and write them, with its figures, into the run of its training.

    Returns:
        The mode's metrics; of them the figures that decide; the curves of its training and held-out loss.
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
    """Metrics for DVC's tables: none of every clip or step."""
    whole = {key: value for key, value in metrics.items() if key not in _OF_CLIPS_OR_STEPS}
    at_steps = metrics["heldout_at_steps"]
    return {**whole, "heldout_loss_at_steps": at_steps and at_steps["loss"]}


def figures(mode: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The few figures of a mode that a person decides by: what it costs, and what it reaches.

    They stand below the mode's name: a column of `dvc exp show` is named by its key alone where no other file
    has that key, and by the file's path otherwise.
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
    """Rows of step and loss, every row with the same keys: `dvc plots` draws no others."""
    return [{"step": step, "loss": value} for step, value, _ in history]
