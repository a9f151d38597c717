"""Node of the `evaluate` pipelines of both modes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.evaluation.evaluation import Evaluation
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.units import GIB
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.result import TrainingResult

if TYPE_CHECKING:
    from mobius_pipeline.training.metrics import Row

Curve = list[dict[str, float]]
MainFigures = dict[str, dict[str, float | None]]


def evaluate(
    trained: TrainingResult,
    samples: SampleSet,
    latents: LatentsStore,
    base_model: BaseModel,
    evaluate: EvaluateConfig,
    work: Path,
) -> tuple[Evaluation, MainFigures, Curve, Curve]:
    """Score a mode's samples; record scores, samples and the training's record in its MLflow run.

    Returns:
        The mode's evaluation, its main figures, and the curves of training loss and held-out loss.
    """
    from mobius_pipeline.comparison import records
    from mobius_pipeline.comparison.curves import thinned
    from mobius_pipeline.comparison.notes import training_note
    from mobius_pipeline.evaluation.quality import quality, reference_features, vae_encoder
    from mobius_pipeline.tracking import api as tracking

    mode, metrics = trained.mode, trained.metrics
    tracking.check_run(trained.run_id, mode)

    encode = vae_encoder(base_model, evaluate.device)
    real = reference_features(latents, evaluate.reference_clips)
    scores = quality(samples.frames.numpy(), samples.prompts, real, encode, evaluate.seed)

    with tracking.attached_run(trained.run_id, mode) as run:
        numbers = {name: value for name, value in scores if isinstance(value, float)}
        run.log_metrics({f"quality/{name}": value for name, value in numbers.items()})
        run.log_artifact(samples.folder, records.SAMPLES)
        run.describe(training_note(trained.description, metrics, scores))
        record = records.record_of(trained, samples, run.id, scores)
        run.log_artifact(records.write_record(work / "records" / mode, record), records.FOLDER)
    evaluation, curves = Evaluation.of(metrics, run.id, scores), thinned(metrics.history)
    return evaluation, main_figures(mode, evaluation), curve(curves.loss), curve(curves.heldout)


def main_figures(mode: str, found: Evaluation) -> MainFigures:
    """Return the main figures of a mode: its costs, losses and prompt match.

    They are nested under the mode's name, so that their keys are unique: `dvc exp show` names a column by its
    key, but prepends the file's path if other files have the same key.
    """
    loss, at_steps = found.heldout_loss, found.heldout_loss_at_steps
    return {
        mode: {
            "peak_gib": found.peak_memory_bytes / GIB,
            "step_s": found.step_s,
            "loss_at_steps": loss if at_steps is None else at_steps,
            "loss": loss,
            "match": found.quality.prompt_match,
        }
    }


def curve(rows: "Sequence[Row]") -> Curve:
    """Return rows of step and loss; all have the same keys, as `dvc plots` requires."""
    return [{"step": step, "loss": value} for step, value, _ in rows]
