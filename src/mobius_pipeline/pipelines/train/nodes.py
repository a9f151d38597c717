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
    from mobius_pipeline.pipelines.notes import training_note
    from mobius_pipeline.training.claim import CONFIG, forked_at
    from mobius_pipeline.training.previews import Preview, picture, write_previews
    from mobius_pipeline.training.report import Listener
    from mobius_pipeline.training.run import fingerprints, read_metrics, summary_metrics, train_mode

    store = LatentsStore(latents)
    clips = {f"{split} clips": len(store.clips(split)) for split in ("train", "heldout")}
    marks = fingerprints(store, base_model, model, train)
    state = Path(work) / marks.whole[:20] / model.mode
    run_file = state / "run.json"
    state.mkdir(parents=True, exist_ok=True)
    with tracking.training_run(
        model.mode,
        params={
            "model": model.model_dump(),
            "train": train.model_dump(),
            "base": marks.base[:20],
            "data": marks.data[:20],
        },
        tags={"fingerprint": marks.whole},
        inputs={
            "latents": tracking.Input(marks.data, within_project(latents), profile=clips),
            "base": tracking.Input(marks.base, within_project(base_model), context="T2I base"),
        },
        resume_run_id=read_json(run_file)["run_id"] if run_file.is_file() else None,
    ) as run:
        write_json(run_file, {"run_id": run.id})

        def show(previews: list[Preview], step: int) -> None:
            videos = state / "previews" / f"step-{step:08d}"
            write_previews(previews, videos, store.clip.rate)
            run.log_videos(videos, step)
            run.log_image(picture(previews), "preview", step)

        listener = Listener(
            metrics=run.log_metrics,
            preview=show,
            checkpoint=lambda path, step, metrics: run.log_checkpoint(
                f"{model.mode}-{step}", step, path, metrics
            ),
        )
        output = Path(work) / "trained" / model.mode
        train_mode(
            store,
            base_model,
            model,
            train,
            state=state,
            output=output,
            listener=listener,
            notes={"run_id": run.id},
            earlier=Path(work).glob(f"*/{model.mode}"),
        )
        if (step := forked_at(state)) is not None:
            run.set_tags({"forked_at": str(step)})
        run.log_metrics(summary_metrics(output))
        run.describe(training_note(model.mode, read_metrics(output), read_json(output / CONFIG)))
    return output


def within_project(path: Path) -> str:
    """Return `path` as seen from the project, where Kedro runs; another machine has the project elsewhere."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
