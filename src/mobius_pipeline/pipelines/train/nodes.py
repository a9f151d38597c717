"""Node of the `train` pipelines of both modes."""

from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.result import TrainingResult


def train(
    latents: LatentsStore,
    base_model: BaseModel,
    train: TrainConfig,
    model: Variant,
    serial: Variant,
    work: Path,
) -> TrainingResult:
    """Train a mode on the latents store and track it as an MLflow run.

    With `train.equal_compute`, the mode trains for the FLOPs of the model `serial`.
    """
    from mobius_pipeline.pipelines.train import recording
    from mobius_pipeline.planning.equal import with_equal_compute
    from mobius_pipeline.training.layout import state_folder, state_folders
    from mobius_pipeline.training.train_mode import fingerprints, train_mode

    train = with_equal_compute(train, model, serial, base_model.unet_config, latents)
    marks = fingerprints(latents, base_model, model, train)
    state = state_folder(work, marks.combined, model.mode)
    with recording.training_run(state, model, train, marks, latents, base_model) as run:
        result = train_mode(
            latents,
            base_model,
            model,
            train,
            state=state,
            output=unpublished(work / "trained" / model.mode),
            callbacks=recording.callbacks(run, model.mode, state, latents.clip.rate),
            run_id=run.id,
            earlier=state_folders(work, model.mode),
        )
        recording.record_result(run, state, result, train)
    return result
