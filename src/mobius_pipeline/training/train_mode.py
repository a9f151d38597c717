"""From stored latents and a base model to a trained mode: everything of a training but Kedro and MLflow."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mobius_pipeline.base_model.load import base_fingerprint, load_scheduler
from mobius_pipeline.base_model.settings import scaling_factor
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.base_unet import load_base
from mobius_pipeline.models.factory import start_of
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.models.pretrained import build_from_base, save_trained
from mobius_pipeline.runtime.files import digest, whole_folder, write_json
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.capabilities import refuse_impossible
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.heldout import HeldOutLoss, heldout_loss
from mobius_pipeline.training.launch import Job, join, launch
from mobius_pipeline.training.layout import LAST_WEIGHTS, METRICS, TRAINING
from mobius_pipeline.training.previews import sample_previews
from mobius_pipeline.training.processes import ALONE, Processes
from mobius_pipeline.training.resume_identity import FORKED, claim, forked_at
from mobius_pipeline.training.trainer import Trainer


@dataclass(frozen=True)
class Fingerprints:
    """What a training depends on: its configuration, the base model, the data."""

    config: str
    base: str
    data: str

    @property
    def whole(self) -> str:
        """One digest of them all."""
        return digest([self.config, self.base, self.data])


def fingerprints(store: LatentsStore, base: Path, model: ModelConfig, config: TrainConfig) -> Fingerprints:
    """Digest what a training depends on; resume state lives under it."""
    return Fingerprints(
        config=digest({"model": model.model_dump(), "train": config.identity()}),
        base=base_fingerprint(base),
        data=store.digest,
    )


def build_objective(base: Path, config: TrainConfig) -> Objective:
    """The objective over the base model's noise schedule."""
    return Objective(
        load_scheduler(base),
        min_snr_gamma=config.objective.min_snr_gamma,
        zero_terminal_snr=config.objective.zero_terminal_snr,
    )


def build_trainer(
    store: LatentsStore,
    base: Path,
    model: ModelConfig,
    config: TrainConfig,
    state: Path,
    callbacks: Callbacks,
    processes: Processes = ALONE,
) -> Trainer:
    """A trainer of a mode over the base model, its resume state in `state`.

    Raises:
        MobiusError: If the base, the data or a lever cannot be used here.
    """
    refuse_impossible(model.variant, config.autocast, config.device)
    return Trainer(
        build_from_base(model.variant, base, seed=config.seed),
        store,
        build_objective(base, config),
        config,
        scaling=scaling_factor(base),
        folder=state,
        callbacks=callbacks,
        processes=processes,
        preview=partial(sample_previews, base=base, store=store, config=config.previews, device=config.device)
        if config.previews
        else None,
    )


def start_heldout_loss(
    store: LatentsStore, base: Path, config: TrainConfig, processes: Processes = ALONE
) -> HeldOutLoss:
    """The held-out loss of the base, a T2I model frame by frame or a T2V model: where both modes start."""
    return heldout_loss(
        start_of(load_base(base)).to(config.device),
        store,
        store.clips("heldout"),
        build_objective(base, config),
        points=config.evaluate_timesteps,
        scaling=scaling_factor(base),
        batch_size=config.batch_size // config.parts,
        device=config.device,
        processes=processes,
    )


def train_mode(
    store: LatentsStore,
    base: Path,
    model: ModelConfig,
    config: TrainConfig,
    *,
    state: Path,
    output: Path,
    callbacks: Callbacks | None = None,
    notes: Mapping[str, Any] | None = None,
    earlier: Iterable[Path] = (),
) -> Path:
    """Train a mode, or go on with a training that was stopped, and write what came out of it.

    Args:
        store: The latents of the clips.
        base: The T2I or T2V directory that they were encoded for.
        model: The mode and its options.
        config: Steps, batch size, optimiser and so on.
        state: Folder of resume state; the same one goes on, exactly.
        output: Folder for weights and metrics; replaced.
        callbacks: Called with metrics, previews and checkpoints.
        notes: What to write beside the metrics, as JSON takes it.
        earlier: Folders of resume state of earlier trainings; see `train.on_mismatch`.

    Returns:
        `output`, as `load_trained` and `MobiusTextToVideoPipeline` take it.

    Raises:
        MobiusError: If data, base or configuration cannot be used or are not those that `state` was begun
            with, a loss is not finite, or a checkpoint cannot be written.
        KeyboardInterrupt: On Ctrl-C, after the last whole step was saved.
    """
    job = Job(
        latents=store.root,
        base=base,
        model=model,
        config=config,
        state=state,
        output=output,
        notes=dict(notes or {}),
    )
    marks = fingerprints(store, base, model, config)
    claim(state, _description(model, config, marks), config.end, config.on_mismatch, earlier)
    if config.processes > 1:
        launch(train_here, job, callbacks or Callbacks())
    else:
        train_here(job, callbacks or Callbacks(), ALONE)
    return output


def join_training(file: Path) -> None:
    """Take part, with this machine's processes, in the training that `file` was written for (see `join`)."""
    join(train_here, file)


def train_here(job: Job, callbacks: Callbacks, processes: Processes) -> None:
    """Train in this process, alone or among others; the one that leads writes what came out."""
    store = LatentsStore(job.latents)
    trainer = build_trainer(store, job.base, job.model, job.config, job.state, callbacks, processes)
    trainer.train()
    start = start_heldout_loss(store, job.base, job.config, processes)
    end = trainer.evaluate_all()
    if processes.is_main_process:
        marks = fingerprints(store, job.base, job.model, job.config)
        results = {
            "heldout_loss": end.loss,
            "heldout_loss_start": start.loss,
            "heldout_loss_by_timestep": end.by_timestep,
            "heldout_by_clip": {"start": start.by_clip, "end": end.by_clip},
            "heldout_watched": trainer.history.watched,
            "heldout_at_steps": asdict(end)
            if job.config.end == job.config.steps
            else trainer.evaluator.at_steps,
            **job.notes,
        }
        write_result(trainer, job.output, job.base, job.model, marks, results)
    processes.barrier()


def _description(model: ModelConfig, config: TrainConfig, marks: Fingerprints) -> dict[str, Any]:
    return {
        "model": model.model_dump(mode="json"),
        "train": config.identity(),
        "fingerprints": {"config": marks.config, "base": marks.base, "data": marks.data},
    }


def training_metrics(trainer: Trainer) -> dict[str, Any]:
    """What the meters read, in the terms of the comparison (bytes, seconds)."""
    history, timer, config = trainer.history, trainer.meter.timer, trainer.config
    frames = statistics.mean(clip.frames for bucket in trainer.buckets for clip in bucket)
    memory = dict(history.memory)
    return {
        "trainable_parameters": sum(parameter.numel() for parameter in trainer.optimization.trained.values()),
        "total_parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "peak_memory_bytes": memory["peak_bytes"],
        "memory_breakdown_bytes": memory["breakdown"],
        "step_s": timer.median_s,
        "step_s_iqr": list(timer.iqr_s),
        "training_s": timer.total_s,
        "data_s": statistics.median(trainer.loader.waited),
        "frames_per_s": config.batch_size * frames / timer.median_s,
        "flops_per_step": history.flops,
        "steps": trainer.step,
        "history": {"loss": history.loss, "heldout": history.heldout},
    }


def write_result(
    trainer: Trainer,
    folder: Path,
    base: Path,
    model: ModelConfig,
    marks: Fingerprints,
    extra: dict[str, Any],
) -> Path:
    """Write the EMA weights, as `load_trained` takes them, the last step's, and the metrics."""
    with whole_folder(folder) as partial:
        names = list(trainer.optimization.trained)
        save_file(
            {name: trainer.optimization.trained[name].detach().contiguous().cpu() for name in names},
            partial / LAST_WEIGHTS,
        )
        shadows = dict(zip(names, trainer.optimization.ema.shadow_params, strict=True))
        save_trained(trainer.model, partial, base, shadows)
        write_json(partial / METRICS, {**training_metrics(trainer), **extra})
        description = _description(model, trainer.config, marks)
        ran = {
            FORKED: forked_at(trainer.folder),
            "processes": trainer.processes.count,
            "devices": trainer.history.devices,
            "runtime": trainer.config.runtime(),
        }
        write_json(partial / TRAINING, {**description, **ran})
    return folder
