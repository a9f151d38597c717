"""Node of the `train` pipelines of both modes."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.tracking.run import Run
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.result import TrainingResult

if TYPE_CHECKING:
    from mobius_pipeline.tracking import api as tracking
    from mobius_pipeline.training.callbacks import Callbacks
    from mobius_pipeline.training.description import Fingerprints

log = logging.getLogger(__name__)


def train(
    latents: LatentsStore,
    base_model: BaseModel,
    train: TrainConfig,
    model: ModelConfig,
    serial: ModelConfig,
    work: Path,
) -> TrainingResult:
    """Train a mode on the latents store and track it as an MLflow run.

    With `train.equal_compute`, the mode trains for the FLOPs of the model `serial`.
    """
    from mobius_pipeline.planning.equal import with_equal_compute
    from mobius_pipeline.runtime.files import write_json
    from mobius_pipeline.tracking import api as tracking
    from mobius_pipeline.training.layout import RUN, state_folder, state_folders
    from mobius_pipeline.training.train_mode import fingerprints, train_mode

    train = with_equal_compute(train, model.variant, serial.variant, base_model.unet_config, latents)
    marks = fingerprints(latents, base_model.folder, model, train)
    state = state_folder(work, marks.whole, model.mode)
    known = _known_run(run_file := state / RUN)
    state.mkdir(parents=True, exist_ok=True)
    with tracking.training_run(
        model.mode,
        params=_params(model, train, marks),
        tags={"fingerprint": marks.whole},
        inputs=_inputs(latents, base_model, marks),
        resume_run_id=known.get("run_id"),
    ) as run:
        write_json(run_file, {**known, "run_id": run.id})
        output = train_mode(
            latents,
            base_model.folder,
            model,
            train,
            state=state,
            output=unpublished(work / "trained" / model.mode),
            callbacks=_callbacks(run, model.mode, state, latents.clip.rate),
            run_id=run.id,
            earlier=state_folders(work, model.mode),
        )
        result = TrainingResult(output)
        _record_result(run, state, result, train)
        if (
            known.get("described") != run.id
        ):  # otherwise keep the description: it may have the samples' scores
            _describe(run, result)
    write_json(run_file, {"run_id": run.id, "described": run.id})  # everything was delivered
    return result


def _params(model: ModelConfig, train: TrainConfig, marks: "Fingerprints") -> dict[str, Any]:
    """Return the parameters to record in the run."""
    settings = {"model": model.model_dump(), "train": train.model_dump()}
    return {**settings, "base": marks.base[:20], "data": marks.data[:20]}


def _inputs(
    latents: LatentsStore, base_model: BaseModel, marks: "Fingerprints"
) -> "dict[str, tracking.Input]":
    """Return the inputs to record in the run."""
    from mobius_pipeline.tracking import api as tracking

    clips = {f"{split} clips": len(latents.clips(split)) for split in ("train", "heldout")}
    return {
        "latents": tracking.Input(marks.data, tracking.within_project(latents.root), profile=clips),
        "base": tracking.Input(marks.base, tracking.within_project(base_model.folder), context="T2I base"),
    }


def _record_result(run: Run, state: Path, result: TrainingResult, train: TrainConfig) -> None:
    """Record the metrics of a finished training, and values of steps that its run lacks."""
    from mobius_pipeline.training.layout import preview_folder
    from mobius_pipeline.training.metrics import tracked_metrics
    from mobius_pipeline.training.previews import due_steps
    from mobius_pipeline.training.resume_identity import forked_at

    first = forked_at(state)
    if first is not None:
        run.set_tags({"forked_at": str(first)})
    run.refill(_by_step(state, train, after=-1 if first is None else first))
    if train.previews:
        due = [step for step in due_steps(train.previews, train.end) if step > (first or 0)]
        run.refill_videos({step: preview_folder(state, step) for step in due})
    run.log_metrics(tracked_metrics(result.metrics))


def _describe(run: Run, result: TrainingResult) -> None:
    from mobius_pipeline.comparison.notes import training_note

    run.describe(training_note(result.description, result.metrics))


def _by_step(state: Path, train: TrainConfig, after: int) -> dict[str, list[tuple[int, float]]]:
    """Return the newest checkpoint's history after step `after`, with learning rates, by metric name."""
    from mobius_pipeline.training.checkpoints import saved_history
    from mobius_pipeline.training.schedule import learning_rates

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
    from mobius_pipeline.runtime.errors import MobiusError
    from mobius_pipeline.runtime.files import read_document

    if not file.is_file():
        return {}
    try:
        return read_document(
            file, dict[str, str], "The training continues from its newest checkpoint in a new run."
        )
    except MobiusError as error:
        log.warning("%s", error)
        return {}


def _callbacks(run: Run, mode: str, state: Path, rate: float) -> "Callbacks":
    """Return callbacks that record a training's metrics, checkpoints and previews in its run."""
    from mobius_pipeline.tracking import api as tracking
    from mobius_pipeline.training.callbacks import Callbacks
    from mobius_pipeline.training.layout import preview_folder
    from mobius_pipeline.training.previews import Preview, picture, write_previews

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
