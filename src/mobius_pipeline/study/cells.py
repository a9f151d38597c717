"""One training of a study: a model, a learning rate and a seed, trained until serial's compute is spent."""

import logging
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.ingest.split import HELDOUT
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.equal import with_equal_compute
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import digest
from mobius_pipeline.training.capabilities import refuse_impossible
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.description import Fingerprints
from mobius_pipeline.training.layout import named_by
from mobius_pipeline.training.metrics import Metrics
from mobius_pipeline.training.result import TrainingResult
from mobius_pipeline.training.train_mode import fingerprints, train_mode

log = logging.getLogger(__name__)

SERIAL = Variant("serial")
STATE, TRAINED, SAMPLES = "state", "trained", "samples"  # in the folder of a training
_EVALUATIONS = 3  # of the held-out loss within serial's steps, after the one at the start


@dataclass(frozen=True)
class Cell:
    """One training of a study."""

    model: Variant
    rate: float
    seed: int


@dataclass(frozen=True)
class Laboratory:
    """Data and settings that all trainings of a study share.

    Attributes:
        store: The latents of the clips.
        base: The base model.
        train: Settings of every training, except for learning rate and seed.
        folder: Folder of the trainings; each has a subfolder, named by a digest of what determines its
            result.
    """

    store: LatentsStore
    base: BaseModel
    train: TrainConfig
    folder: Path
    _ends: dict[Variant, int | None] = field(default_factory=dict, repr=False)  # predicted once per model

    def settings(self, cell: Cell) -> TrainConfig:
        """Return the settings of a training: all held-out clips, no previews, to serial's compute."""
        return self.train.model_copy(
            update={
                "seed": cell.seed,
                "optimizer": self.train.optimizer.model_copy(update={"learning_rate": cell.rate}),
                "equal_compute": True,
                "last_step": self._end(cell.model),
                "evaluate_every": -(-self.train.steps // _EVALUATIONS),
                "evaluate_clips": len(self.store.clips(HELDOUT)),
                "previews": None,
            }
        )

    def check(self, model: Variant) -> None:
        """Check that a model can be trained here, before any training starts.

        Raises:
            MobiusError: If it does not fit the base or this machine.
        """
        refuse_impossible(model, self.train.autocast, self.train.device)
        self._end(model)

    def _end(self, model: Variant) -> int | None:
        if model not in self._ends:
            equal = self.train.model_copy(update={"equal_compute": True})
            extended = with_equal_compute(equal, model, SERIAL, self.base.unet_config, self.store)
            self._ends[model] = extended.last_step
        return self._ends[model]

    def folder_of(self, cell: Cell) -> Path:
        """Return the folder of a training, named by a digest of model, settings, base and data."""
        settings = self.settings(cell)
        config = digest({"model": asdict(cell.model), "train": settings.identity()})
        return named_by(self.folder, self._marks.model_copy(update={"config": config}).combined)

    @cached_property
    def _marks(self) -> Fingerprints:
        """Fingerprints of base and data, which are hashed once."""
        return fingerprints(self.store, self.base, SERIAL, self.train)

    def result(self, cell: Cell) -> TrainingResult:
        """Return the result of a finished training."""
        return TrainingResult(self.folder_of(cell) / TRAINED)

    def metrics(self, cell: Cell) -> Metrics:
        """Return the metrics of a training; train or resume it if it is not finished.

        Raises:
            MobiusError: If data, base or settings cannot be used.
            KeyboardInterrupt: On Ctrl-C, after the last complete step was saved.
        """
        place = self.folder_of(cell)
        if not _is_intact(place / TRAINED):
            settings = self.settings(cell)
            train_mode(
                self.store, self.base, cell.model, settings, state=place / STATE, output=place / TRAINED
            )
        return self.result(cell).metrics


def _is_intact(trained: Path) -> bool:
    """Return whether a result is complete; a damaged one is logged, and written again from its checkpoint."""
    if not trained.is_dir():
        return False
    try:
        result = TrainingResult(trained)
        _ = result.metrics, result.description
    except MobiusError as error:
        log.warning("%s", error)
        return False
    return True
