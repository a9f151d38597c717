"""Training of one mode from stored latents and a base model, without Kedro and MLflow."""

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
    """Digests of what a training depends on: configuration, base model, data."""

    config: str
    base: str
    data: str

    @property
    def whole(self) -> str:
        """One digest of all three."""
        return digest([self.config, self.base, self.data])


def fingerprints(store: LatentsStore, base: Path, model: ModelConfig, config: TrainConfig) -> Fingerprints:
    """Compute the digests of what a training depends on; they name its state folder."""
    return Fingerprints(
        config=digest({"model": model.model_dump(), "train": config.identity()}),
        base=base_fingerprint(base),
        data=store.digest,
    )


def build_objective(base: Path, config: TrainConfig) -> Objective:
    """Build the objective over the base model's noise schedule."""
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
    """Build the trainer of a mode over the base model, with its resume state in `state`.

    Raises:
        MobiusError: If the base, the data or a lever cannot be used on this machine.
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
    """Measure the held-out loss of the base (T2I: frame by frame), where both modes start."""
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
    """Train a mode, or resume its training, and write the result.

    Args:
        store: The latents of the clips.
        base: The T2I or T2V directory that the latents were encoded for.
        model: The mode and its options.
        config: Steps, batch size, optimiser and so on.
        state: Folder of the resume state; a training with the same folder resumes exactly.
        output: Folder for weights and metrics; replaced.
        callbacks: Called with metrics, previews and checkpoints.
        notes: Values to add to `metrics.json`, as JSON values.
        earlier: Folders of resume state of earlier trainings; see `train.on_mismatch`.

    Returns:
        `output`, for `load_trained` and `MobiusTextToVideoPipeline.from_pretrained`.

    Raises:
        MobiusError: If data, base or configuration cannot be used or are not those that `state` was created
            for, a loss is not finite, or a checkpoint cannot be written.
        KeyboardInterrupt: On Ctrl-C, after the last complete step was saved.
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
    """Take part in the training that wrote `file`, with processes on this machine (see `join`)."""
    join(train_here, file)


def train_here(job: Job, callbacks: Callbacks, processes: Processes) -> None:
    """Train in this process, alone or among others; the main process writes the result."""
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
    """Return the measurements under the names and in the units of the comparison (bytes, seconds)."""
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
    """Write the EMA weights for `load_trained`, the weights of the last step, and the metrics."""
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
