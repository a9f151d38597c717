"""Record a training in its MLflow run; `run.json` in the training's state folder names that run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.notes import training_note
from mobius_pipeline.ingest.split import SPLITS
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document, write_json
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.run import Run
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.checkpoints import saved_history
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.description import Fingerprints
from mobius_pipeline.training.layout import RUN, preview_folder
from mobius_pipeline.training.metrics import tracked_metrics
from mobius_pipeline.training.previews import Preview, due_steps, picture, write_previews
from mobius_pipeline.training.result import TrainingResult
from mobius_pipeline.training.resume_identity import forked_at
from mobius_pipeline.training.schedule import learning_rates

log = logging.getLogger(__name__)


@contextmanager
def training_run(
    state: Path,
    model: Variant,
    train: TrainConfig,
    marks: Fingerprints,
    latents: LatentsStore,
    base_model: BaseModel,
) -> Iterator[Run]:
    """Yield the MLflow run of a training: the one that it started in, or a new one."""
    known = _known_run(file := state / RUN)
    state.mkdir(parents=True, exist_ok=True)
    with tracking.training_run(
        model.mode,
        params=_params(model, train, marks),
        tags={"fingerprint": marks.combined},
        inputs=_inputs(latents, base_model, marks),
        resume_run_id=known.get("run_id"),
    ) as run:
        write_json(file, {**known, "run_id": run.id})
        yield run
    write_json(file, {"run_id": run.id, "described": run.id})  # everything was delivered


def _params(model: Variant, train: TrainConfig, marks: Fingerprints) -> dict[str, Any]:
    """Return the parameters to record in the run."""
    settings = {"model": asdict(model), "train": train.model_dump()}
    return {**settings, "base": marks.base[:20], "data": marks.data[:20]}


def _inputs(latents: LatentsStore, base_model: BaseModel, marks: Fingerprints) -> dict[str, tracking.Input]:
    """Return the inputs to record in the run."""
    clips = {f"{split} clips": len(latents.clips(split)) for split in SPLITS}
    return {
        "latents": tracking.Input(marks.data, tracking.within_project(latents.root), profile=clips),
        "base": tracking.Input(marks.base, tracking.within_project(base_model.folder), context="T2I base"),
    }


def record_result(run: Run, state: Path, result: TrainingResult, train: TrainConfig) -> None:
    """Record the metrics of a finished training, values of steps that its run lacks, and its description.

    A run that was described before keeps its description, which may have the scores of its samples.
    """
    first = forked_at(state)
    if first is not None:
        run.set_tags({"forked_at": str(first)})
    run.refill(_by_step(state, train, after=-1 if first is None else first))
    if train.previews:
        due = [step for step in due_steps(train.previews, train.end) if step > (first or 0)]
        run.refill_videos({step: preview_folder(state, step) for step in due})
    run.log_metrics(tracked_metrics(result.metrics))
    if _known_run(state / RUN).get("described") != run.id:
        run.describe(training_note(result.description, result.metrics))


def _by_step(state: Path, train: TrainConfig, after: int) -> dict[str, list[tuple[int, float]]]:
    """Return the newest checkpoint's history after step `after`, with learning rates, by metric name."""
    history, rate = saved_history(state), learning_rates(train.optimizer, train.end, train.batch_size)
    rows: dict[str, list[tuple[int, float]]] = {
        **history.further,
        "loss": [(step, value) for step, value, _ in history.loss],
        "heldout_loss": [(step, value) for step, value, _ in history.heldout],
        "learning_rate": [(step, rate(step - 1)) for step, _, _ in history.loss],
    }
    return {key: [(step, value) for step, value in some if step > after] for key, some in rows.items()}


def _known_run(file: Path) -> dict[str, str]:
    """Read the MLflow run that the training started in; empty if unknown, and a new run is used."""
    if not file.is_file():
        return {}
    try:
        return read_document(
            file, dict[str, str], "The training continues from its newest checkpoint in a new run."
        )
    except MobiusError as error:
        log.warning("%s", error)
        return {}


def callbacks(run: Run, mode: str, state: Path, rate: float) -> Callbacks:
    """Return callbacks that record a training's metrics, checkpoints and previews in its run."""

    def show(previews: list[Preview], step: int) -> None:
        videos = preview_folder(state, step)
        write_previews(previews, videos, rate)
        run.log_videos(videos, step)
        run.log_image(picture(previews), "preview", step)

    return Callbacks(
        metrics=run.log_metrics,
        preview=show,
        checkpoint=lambda path, step, metrics: run.log_checkpoint(
            f"{mode}-{step}", step, Path(tracking.within_project(path)), metrics
        ),
    )
