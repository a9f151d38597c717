"""The result of a finished training, as later stages read it (see `layout` for its files)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, get_args

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_document
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.layout import METRICS, TRAINING
from mobius_pipeline.training.metrics import Metrics

if TYPE_CHECKING:
    from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline


@dataclass(frozen=True)
class TrainingResult:
    """The folder of a finished training; each file is read on first access."""

    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the result in a folder that is named by its mode; `parallel` may hold any mode but serial.

        Raises:
            MobiusError: If it holds another mode, or the description is missing or damaged.
        """
        found = cls(folder)
        replaces_parallel = folder.name == "parallel" and found.mode != "serial"
        if found.mode != folder.name and not replaces_parallel:
            raise MobiusError(
                f"{folder} holds a training of mode {found.mode}, not {folder.name}. {_written_again(folder)}"
            )
        return found

    @cached_property
    def description(self) -> Description:
        """Settings and fingerprints of the training.

        Raises:
            MobiusError: If the file is missing or damaged.
        """
        return read_document(self.folder / TRAINING, Description, _written_again(self.folder))

    @cached_property
    def metrics(self) -> Metrics:
        """Losses and measurements of the training.

        Raises:
            MobiusError: If the file is missing or damaged.
        """
        return read_document(self.folder / METRICS, Metrics, _written_again(self.folder))

    @property
    def mode(self) -> str:
        """Mode of the model; see `Variant`."""
        return self.description.mode

    @property
    def run_id(self) -> str:
        """The MLflow run that records the training.

        Raises:
            MobiusError: If there is none.
        """
        if self.metrics.run_id is None:
            pipeline = "train_serial" if self.mode == "serial" else "train_parallel"
            raise MobiusError(
                f"{self.folder} names no MLflow run: `train_mode` was called without one. Train it with "
                f"`kedro run --pipelines={pipeline}`, which records it."
            )
        return self.metrics.run_id

    def pipeline(self, base: BaseModel) -> "MobiusTextToVideoPipeline":
        """Load the EMA weights over the base model, with DDIM (Song et al. 2021).

        Raises:
            MobiusError: If `base`, including its VAE and text encoder, is not the one that it was trained on.
        """
        from mobius_pipeline.base_model.load import quiet_loading
        from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline

        if self.description.fingerprints.base != base.digest:
            raise MobiusError(
                f"{self.folder} was trained on another base model than {base.folder}. "
                "Run its training again, or restore that base."
            )
        quiet_loading()
        return MobiusTextToVideoPipeline.from_pretrained(base.folder, self.folder)


def _written_again(folder: Path) -> str:
    """Return how to write the result of a training again."""
    pipeline = (
        f"`kedro run --pipelines=train_{folder.name}`" if folder.name in get_args(Mode) else "`train_mode`"
    )
    return (
        f"Run {pipeline} with the same settings: it resumes from the newest checkpoint and writes it again."
    )
