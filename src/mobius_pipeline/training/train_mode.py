"""Training of one mode from stored latents and a base model, without Kedro and MLflow."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from safetensors.torch import save_file

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import load_scheduler
from mobius_pipeline.base_model.settings import scaling_factor
from mobius_pipeline.ingest.split import HELDOUT
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.base_unet import load_base
from mobius_pipeline.models.factory import start_of
from mobius_pipeline.models.objective import Objective
from mobius_pipeline.models.pretrained import build_from_base, save_trained
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.files import atomic_folder, digest, write_json
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.capabilities import refuse_impossible
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.description import Description, Fingerprints, Identity
from mobius_pipeline.training.heldout import heldout_loss
from mobius_pipeline.training.launch import Job, join, launch
from mobius_pipeline.training.layout import LAST_WEIGHTS, METRICS, TRAINING
from mobius_pipeline.training.metrics import (
    Costs,
    Curves,
    HeldOutLoss,
    LossAtStep,
    LossByClip,
    Memory,
    Metrics,
)
from mobius_pipeline.training.previews import sample_previews
from mobius_pipeline.training.processes import ALONE, Processes
from mobius_pipeline.training.result import TrainingResult
from mobius_pipeline.training.resume_identity import claim, forked_at
from mobius_pipeline.training.trainer import Trainer


def fingerprints(store: LatentsStore, base: BaseModel, model: Variant, config: TrainConfig) -> Fingerprints:
    """Compute the digests of what a training depends on; they name its state folder."""
    return Fingerprints(
        config=digest({"model": asdict(model), "train": config.identity()}),
        base=base.digest,
        data=store.digest,
    )


def build_objective(base: BaseModel, config: TrainConfig) -> Objective:
    """Build the objective over the base model's noise schedule."""
    return Objective(
        load_scheduler(base.folder),
        min_snr_gamma=config.objective.min_snr_gamma,
        zero_terminal_snr=config.objective.zero_terminal_snr,
    )


def build_trainer(
    store: LatentsStore,
    base: BaseModel,
    model: Variant,
    config: TrainConfig,
    state: Path,
    callbacks: Callbacks,
    processes: Processes = ALONE,
) -> Trainer:
    """Build the trainer of a mode over the base model, with its resume state in `state`.

    Raises:
        MobiusError: If the base, the data or a lever cannot be used on this machine.
    """
    refuse_impossible(model, config.autocast, config.device)
    return Trainer(
        build_from_base(model, base.folder, seed=config.seed),
        store,
        build_objective(base, config),
        config,
        scaling=scaling_factor(base.folder),
        folder=state,
        callbacks=callbacks,
        processes=processes,
        preview=partial(sample_previews, base=base, store=store, config=config.previews, device=config.device)
        if config.previews
        else None,
    )


def start_heldout_loss(
    store: LatentsStore, base: BaseModel, config: TrainConfig, processes: Processes = ALONE
) -> HeldOutLoss:
    """Measure the held-out loss of the base (T2I: frame by frame), where both modes start."""
    return heldout_loss(
        start_of(load_base(base.folder)).to(config.device),
        store,
        store.clips(HELDOUT),
        build_objective(base, config),
        points=config.evaluate_timesteps,
        scaling=scaling_factor(base.folder),
        batch_size=config.batch_size // config.parts,
        device=config.device,
        processes=processes,
    )


def train_mode(
    store: LatentsStore,
    base: BaseModel,
    model: Variant,
    config: TrainConfig,
    *,
    state: Path,
    output: Path,
    callbacks: Callbacks | None = None,
    run_id: str | None = None,
    earlier: Iterable[Path] = (),
) -> TrainingResult:
    """Train a mode, or resume its training, and write the result.

    Args:
        store: The latents of the clips.
        base: The base (T2I or T2V) that the latents were encoded for.
        model: The mode and its options.
        config: Steps, batch size, optimiser and so on.
        state: Folder of the resume state; a training with the same folder resumes exactly.
        output: Folder for weights and metrics; replaced.
        callbacks: Called with metrics, previews and checkpoints.
        run_id: MLflow run that records the training.
        earlier: Folders of resume state of earlier trainings; see `train.on_mismatch`.

    Returns:
        The result in `output`; `MobiusTextToVideoPipeline.from_pretrained` takes its `folder`.

    Raises:
        MobiusError: If data, base or configuration cannot be used or are not those that `state` was created
            for, a loss is not finite, or a checkpoint cannot be written.
        KeyboardInterrupt: On Ctrl-C, after the last complete step was saved.
    """
    job = Job(
        latents=store.root,
        base=base.folder,
        model=model,
        config=config,
        state=state,
        output=output,
        run_id=run_id,
    )
    marks = fingerprints(store, base, model, config)
    claim(state, _identity(model, config, marks), config.end, config.on_mismatch, earlier)
    if config.processes > 1:
        launch(train_here, job, callbacks or Callbacks())
    else:
        train_here(job, callbacks or Callbacks(), ALONE)
    return TrainingResult(output)


def join_training(file: Path) -> None:
    """Take part in the training that wrote `file`, with processes on this machine (see `join`)."""
    join(train_here, file)


def train_here(job: Job, callbacks: Callbacks, processes: Processes) -> None:
    """Train in this process, alone or among others; the main process writes the result."""
    store, base = LatentsStore(job.latents), BaseModel(job.base)
    trainer = build_trainer(store, base, job.model, job.config, job.state, callbacks, processes)
    trainer.train()
    start = start_heldout_loss(store, base, job.config, processes)
    end = trainer.evaluate_all()
    if processes.is_main_process:
        at_steps = trainer.evaluator.at_steps
        if job.config.end == job.config.steps:
            at_steps = LossAtStep(step=job.config.steps, **dict(end))
        metrics = Metrics(
            **dict(training_costs(trainer)),
            history=Curves(loss=trainer.recorder.losses, heldout=trainer.evaluator.losses),
            heldout_loss=end.loss,
            heldout_loss_start=start.loss,
            heldout_loss_by_timestep=end.by_timestep,
            heldout_by_clip=LossByClip(start=start.by_clip, end=end.by_clip),
            heldout_watched=trainer.evaluator.by_clip,
            heldout_at_steps=at_steps,
            run_id=job.run_id,
        )
        marks = fingerprints(store, base, job.model, job.config)
        write_result(trainer, job.output, base, _identity(job.model, job.config, marks), metrics)
    processes.barrier()


def _identity(model: Variant, config: TrainConfig, marks: Fingerprints) -> Identity:
    return Identity(model=asdict(model), train=config.identity(), fingerprints=marks, forked_at=None)


def training_costs(trainer: Trainer) -> Costs:
    """Return the size of the model, and the memory and time of its training."""
    timer, config, memory = trainer.meter.timer, trainer.config, trainer.meter.memory
    frames = statistics.mean(clip.frames for bucket in trainer.buckets for clip in bucket)
    return Costs(
        steps=trainer.step,
        trainable_parameters=sum(one.numel() for one in trainer.optimization.trained.values()),
        total_parameters=sum(one.numel() for one in trainer.model.parameters()),
        peak_memory_bytes=memory["peak_bytes"],
        memory_breakdown_bytes=Memory(**memory["breakdown"]),
        step_s=timer.median_s,
        step_s_iqr=timer.iqr_s,
        training_s=timer.total_s,
        data_s=statistics.median(trainer.loader.waited),
        frames_per_s=config.batch_size * frames / timer.median_s,
        flops_per_step=trainer.meter.flops,
    )


def write_result(
    trainer: Trainer, folder: Path, base: BaseModel, identity: Identity, metrics: Metrics
) -> None:
    """Write the EMA weights for `load_trained`, the weights of the last step, metrics and description."""
    optimization = trainer.optimization
    description = Description(
        **dict(identity) | {"forked_at": forked_at(trainer.folder)},
        processes=trainer.processes.count,
        devices=trainer.meter.devices,
        runtime=trainer.config.runtime(),
    )
    with atomic_folder(folder) as partial:
        last = {name: one.detach().contiguous().cpu() for name, one in optimization.trained.items()}
        save_file(last, partial / LAST_WEIGHTS)
        averages = dict(zip(optimization.trained, optimization.ema.shadow_params, strict=True))
        save_trained(trainer.model, partial, base.folder, averages)
        write_json(partial / METRICS, metrics.model_dump(mode="json"))
        write_json(partial / TRAINING, description.model_dump(mode="json"))
