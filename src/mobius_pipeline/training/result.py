"""The result of a finished training, as later stages read it (see `layout` for its files)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document
from mobius_pipeline.runtime.units import GIB
from mobius_pipeline.training.layout import METRICS, TRAINING
from mobius_pipeline.training.resume_identity import Description

if TYPE_CHECKING:
    from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline

Number = int | float


@with_config(ConfigDict(extra="allow"))
class Trained(Description):
    """Contents of a finished training's `training.json`."""

    processes: int


@with_config(ConfigDict(extra="allow"))
class Metrics(TypedDict):
    """Contents of a finished training's `metrics.json`: `training_metrics`, and the final losses."""

    heldout_loss: Number
    heldout_loss_start: Number
    heldout_loss_by_timestep: dict[str, Number]
    heldout_at_steps: dict[str, Any] | None
    history: dict[str, list[Any]]
    steps: int
    trainable_parameters: int
    total_parameters: int
    heldout_by_clip: dict[str, Any]
    peak_memory_bytes: Number
    memory_breakdown_bytes: dict[str, Number]
    step_s: Number
    step_s_iqr: list[Number]
    training_s: Number
    data_s: Number
    frames_per_s: Number
    flops_per_step: Number


@dataclass(frozen=True)
class TrainingResult:
    """The folder of a finished training; each file is read on first access."""

    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the result in a folder that is named by its mode.

        Raises:
            MobiusError: If it has another mode, or its description is missing or damaged.
        """
        found = cls(folder)
        if found.mode != folder.name:
            raise MobiusError(
                f"{folder} holds a training of mode {found.mode}, not {folder.name}. {_written_again(folder)}"
            )
        return found

    @cached_property
    def description(self) -> Trained:
        """Settings and fingerprints of the training.

        Raises:
            MobiusError: If the file is missing or damaged.
        """
        return read_document(self.folder / TRAINING, Trained, _written_again(self.folder))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Losses and measurements of the training.

        Raises:
            MobiusError: If the file is missing or damaged.
        """
        return dict(read_document(self.folder / METRICS, Metrics, _written_again(self.folder)))

    @property
    def mode(self) -> str:
        """The mode: serial, parallel or sum."""
        return str(self.description["model"].get("mode"))

    def pipeline(self, base: Path) -> "MobiusTextToVideoPipeline":
        """Load the EMA weights over the base model, with DDIM (Song et al. 2021).

        Raises:
            MobiusError: If `base`, including its VAE and text encoder, is not the one that it was trained on.
        """
        from mobius_pipeline.base_model.load import base_fingerprint, quiet_loading
        from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline

        if self.description["fingerprints"]["base"] != base_fingerprint(base):
            raise MobiusError(
                f"{self.folder} was trained on another base model than {base}. "
                "Run its training again, or restore that base."
            )
        quiet_loading()
        return MobiusTextToVideoPipeline.from_pretrained(base, self.folder)


def _written_again(folder: Path) -> str:
    """Return how to write the result of a training again."""
    pipeline = (
        f"`kedro run --pipelines=train_{folder.name}`" if folder.name in get_args(Mode) else "`train_mode`"
    )
    return (
        f"Run {pipeline} with the same settings: it resumes from the newest checkpoint and writes it again."
    )


def tracked_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a finished training under their names in MLflow (GiB, seconds)."""
    breakdown, at_steps = metrics["memory_breakdown_bytes"], metrics["heldout_at_steps"]
    return {
        **({} if at_steps is None else {"eval/loss_at_steps": at_steps["loss"]}),
        "eval/loss": metrics["heldout_loss"],
        "eval/loss_start": metrics["heldout_loss_start"],
        **{f"eval/loss_{bucket}": value for bucket, value in metrics["heldout_loss_by_timestep"].items()},
        "memory/peak_gib": metrics["peak_memory_bytes"] / GIB,
        **{f"memory/{name}_gib": value / GIB for name, value in breakdown.items()},
        "time/step_s": metrics["step_s"],
        "time/step_alone_s": metrics["step_s"],  # kept when a comparison times the step again
        "time/training_s": metrics["training_s"],
        "time/data_s": metrics["data_s"],
        "throughput/frames_per_s": metrics["frames_per_s"],
        "flops/step": metrics["flops_per_step"],
        "flops/training": metrics["flops_per_step"] * metrics["steps"],
        "parameters/trainable": metrics["trainable_parameters"],
        "parameters/total": metrics["total_parameters"],
    }
