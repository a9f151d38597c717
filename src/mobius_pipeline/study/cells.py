"""One training of a study: a model, a learning rate and a seed, to serial's compute."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.equal import with_equal_compute
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import digest
from mobius_pipeline.training.capabilities import refuse_impossible
from mobius_pipeline.training.config import ModelConfig, TrainConfig
from mobius_pipeline.training.layout import named_by
from mobius_pipeline.training.result import TrainingResult
from mobius_pipeline.training.train_mode import Fingerprints, fingerprints, train_mode

log = logging.getLogger(__name__)

SERIAL = Variant("serial")
STATE, TRAINED, SAMPLES = "state", "trained", "samples"  # in the folder of a training
_EVALUATIONS = 3  # of the held-out loss in serial's steps, beside the start: points of a curve


@dataclass(frozen=True)
class Cell:
    """A training of a study."""

    model: Variant
    rate: float
    seed: int


@dataclass(frozen=True)
class Laboratory:
    """What all trainings of a study share.

    Attributes:
        store: The latents of the clips.
        base: The base model.
        unet: The configuration of its UNet.
        train: Settings of every training, but for rate and seed.
        folder: Where the trainings lie: a folder each, found again by what decides its result.
    """

    store: LatentsStore
    base: Path
    unet: Mapping[str, Any]
    train: TrainConfig
    folder: Path
    _ends: dict[Variant, int | None] = field(default_factory=dict, repr=False)  # predicted once a model

    def settings(self, cell: Cell) -> TrainConfig:
        """The settings of a training: on all held-out clips, without previews, to serial's compute."""
        return self.train.model_copy(
            update={
                "seed": cell.seed,
                "optimizer": self.train.optimizer.model_copy(update={"learning_rate": cell.rate}),
                "equal_compute": True,
                "last_step": self._end(cell.model),
                "evaluate_every": -(-self.train.steps // _EVALUATIONS),
                "evaluate_clips": len(self.store.clips("heldout")),
                "previews": None,
            }
        )

    def check(self, model: Variant) -> None:
        """See that a model can be trained here, before any other is.

        Raises:
            MobiusError: If it does not fit the base, or what this machine has.
        """
        refuse_impossible(model, self.train.autocast, self.train.device)
        self._end(model)

    def _end(self, model: Variant) -> int | None:
        if model not in self._ends:
            equal = self.train.model_copy(update={"equal_compute": True})
            extended = with_equal_compute(equal, model, SERIAL, self.unet, self.store)
            self._ends[model] = extended.last_step
        return self._ends[model]

    def place(self, cell: Cell) -> Path:
        """The folder of a training, named by all that decides its result: model, settings, base and data."""
        model, settings = ModelConfig(**asdict(cell.model)), self.settings(cell)
        config = digest({"model": model.model_dump(), "train": settings.identity()})
        return named_by(self.folder, replace(self._marks, config=config).whole)

    @cached_property
    def _marks(self) -> Fingerprints:
        """Of base and data, which are hashed once."""
        return fingerprints(self.store, self.base, ModelConfig(**asdict(SERIAL)), self.train)

    def metrics(self, cell: Cell) -> dict[str, Any]:
        """What a training measured; it is trained if it is not there, or goes on where it was stopped.

        Raises:
            MobiusError: If data, base or settings cannot be used.
            KeyboardInterrupt: On Ctrl-C, after the last whole step was saved.
        """
        place = self.place(cell)
        if not _is_whole(place / TRAINED):
            model, settings = ModelConfig(**asdict(cell.model)), self.settings(cell)
            train_mode(self.store, self.base, model, settings, state=place / STATE, output=place / TRAINED)
        return TrainingResult(place / TRAINED).metrics


def _is_whole(trained: Path) -> bool:
    """Whether a result is there; a damaged one is named, and written again from its newest checkpoint."""
    if not trained.is_dir():
        return False
    try:
        result = TrainingResult(trained)
        _ = result.metrics, result.description
    except MobiusError as error:
        log.warning("%s", error)
        return False
    return True
