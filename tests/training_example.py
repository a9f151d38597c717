"""Examples of the files of a finished training."""

from typing import Any

from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.training.checkpoints import Checkpoint, Progress
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.history import History
from mobius_pipeline.training.metrics import Metrics

METRICS: dict[str, Any] = {
    "steps": 300, "trainable_parameters": 1_500_000, "total_parameters": 4_000_000,
    "peak_memory_bytes": 3 * 2**29,
    "memory_breakdown_bytes": {
        "weights": 2**29, "gradients": 0, "optimizer": 2**29, "activations": 2**28, "other": 2**28,
    },
    "step_s": 0.25, "step_s_iqr": [0.2, 0.3], "training_s": 75.0, "data_s": 0.001,
    "frames_per_s": 128.0, "flops_per_step": 1.0,
    "heldout_loss": 0.15, "heldout_loss_start": 0.2, "heldout_loss_by_timestep": {"0-249": 0.15},
    "heldout_by_clip": {"start": {"x": 0.2}, "end": {"x": 0.15}},
    "heldout_watched": [], "heldout_at_steps": None,
    "history": {"loss": [], "heldout": []}, "run_id": "r",
}  # fmt: skip
DESCRIPTION: dict[str, Any] = {
    "model": {"mode": "parallel"}, "train": {"batch_size": 4, "seed": 7, "steps": 300},
    "fingerprints": {"config": "c" * 64, "base": "b" * 64, "data": "d" * 64},
    "forked_at": None, "processes": 1, "devices": ["cuda"], "runtime": {"device": "cuda"},
}  # fmt: skip


def metrics(**changes: Any) -> Metrics:
    return Metrics(**METRICS | changes)


def description(**changes: Any) -> Description:
    return Description(**DESCRIPTION | changes)


def quality(**scores: Any) -> Quality:
    """Scores of a set of videos; None where none is named."""
    return Quality(**dict.fromkeys(Quality.model_fields) | scores)


def checkpoint(step: int, tensors: dict[str, Any], **history: Any) -> Checkpoint:
    progress = Progress(step=step, history=History(**history), ema_steps=step, processes=1)
    return Checkpoint(tensors, progress)
