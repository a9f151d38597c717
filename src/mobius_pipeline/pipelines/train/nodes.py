"""The trainings' node: one for both modes."""

import logging
from pathlib import Path

from mobius_pipeline.training.config import ModelConfig, TrainConfig

log = logging.getLogger(__name__)


def train(latents: Path, base_model: Path, train: TrainConfig, model: ModelConfig, work: str) -> Path:
    """Train a mode from the latents store, tracked in a run of its own."""
    from mobius_pipeline import tracking
    from mobius_pipeline.files import read_json, write_json
    from mobius_pipeline.latents.store import LatentsStore
    from mobius_pipeline.training.run import (
        build_trainer,
        fingerprints,
        summary_metrics,
        t2i_heldout_loss,
        write_result,
    )
    from mobius_pipeline.training.trainer import Listener

    store = LatentsStore(latents)
    marks = fingerprints(store, base_model, model, train)
    state = Path(work) / marks.whole[:20] / model.mode
    run_file = state / "run.json"
    state.mkdir(parents=True, exist_ok=True)
    with tracking.training_run(
        model.mode,
        params={"train": train.model_dump(), "base": marks.base[:20], "data": marks.data[:20]},
        tags={"fingerprint": marks.whole},
        inputs={"latents": marks.data, "base": marks.base},
        resume_run_id=read_json(run_file)["run_id"] if run_file.is_file() else None,
    ) as run:
        write_json(run_file, {"run_id": run.id})
        listener = Listener(
            metrics=run.log_metrics,
            checkpoint=lambda path, step, metrics: run.log_checkpoint(
                f"{model.mode}-{step}", step, path, metrics
            ),
        )
        trainer = build_trainer(store, base_model, model, train, state, listener)
        trainer.train()
        start = t2i_heldout_loss(store, base_model, train)
        end = trainer.evaluate(store.clips("heldout"))
        extra = {
            "run_id": run.id,
            "heldout_loss": end.loss,
            "heldout_loss_start": start.loss,
            "heldout_loss_by_timestep": end.by_timestep,
            "heldout_by_clip": {"start": start.by_clip, "end": end.by_clip},
        }
        folder = write_result(trainer, Path(work) / "trained" / model.mode, base_model, model, marks, extra)
        run.log_metrics(summary_metrics(folder))
    return folder
