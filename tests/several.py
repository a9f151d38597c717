"""Functions for the processes of trainings in tests, which import them by name."""

import json
import os
import signal
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.launch import Job
from mobius_pipeline.training.processes import Processes
from mobius_pipeline.training.train_mode import build_trainer
from mobius_pipeline.training.trainer import Trainer


def in_float64(job: Job, callbacks: Callbacks, processes: Processes) -> Trainer:
    """Train in float64, where the order of sums hardly matters, and write the results to compare."""
    torch.set_num_threads(1)
    store = LatentsStore(job.latents)
    one = build_trainer(store, BaseModel(job.base), job.model, job.config, job.state, callbacks, processes)
    one.model.double()
    one = Trainer(
        one.model,
        store,
        one.objective,
        job.config,
        scaling=one.source.scaling,
        folder=job.state,
        callbacks=callbacks,
        processes=processes,
    )
    one.train()
    if processes.is_main_process:
        write(one, job.output)
    return one


def write(one: Trainer, folder: Path) -> None:
    """Return losses, held-out losses, sums of weights and EMA weights, FLOPs, and the parts of a batch."""
    folder.mkdir(parents=True, exist_ok=True)
    history = one.history
    found = {
        "loss": [row[1] for row in history.loss],
        "heldout": [row[1] for row in history.heldout],
        "weights": [float(weight.detach().sum()) for weight in one.optimization.trained.values()],
        "ema": [float(shadow.sum()) for shadow in one.optimization.ema.shadow_params],
        "flops": history.flops,
        "parts": len(one.batch(0)),
    }
    (folder / "found.json").write_text(json.dumps(found))


def killed_at_three(job: Job, callbacks: Callbacks, processes: Processes) -> None:
    """Train; the last process dies of SIGKILL in its third step."""
    trainer = build_trainer(
        LatentsStore(job.latents), BaseModel(job.base), job.model, job.config, job.state, callbacks, processes
    )
    if processes.rank == processes.count - 1:
        update = trainer.train_step

        def deadly(parts):  # type: ignore[no-untyped-def]
            if trainer.step == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return update(parts)

        trainer.train_step = deadly  # type: ignore[method-assign]
    trainer.train()


class _Alone(Processes):
    """A single process that averages its gradients through the collectives of several."""

    def ddp(self, model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, gradient_as_bucket_view=True, init_sync=False)


def under_nccl(job: Job, callbacks: Callbacks, processes: Processes) -> Trainer:
    """Train in one process, through the collectives of several."""
    mean = torch.tensor([1.0, 2.0], device=job.config.device)
    distributed.all_reduce(mean)
    gathered: list[str | None] = [None]
    distributed.all_gather_object(gathered, "here")
    distributed.barrier()
    assert (distributed.get_backend(), mean.tolist(), gathered) == ("nccl", [1.0, 2.0], ["here"])
    assert processes == Processes(0, 1, is_main_process=True)
    one = build_trainer(
        LatentsStore(job.latents), BaseModel(job.base), job.model, job.config, job.state, callbacks, _Alone()
    )
    one.train()
    return one
