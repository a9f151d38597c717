"""Evaluated trainings, grouped by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobius_pipeline.sampling.sample_set import SampleSet


@dataclass(frozen=True)
class Record:
    """An evaluated training.

    Attributes:
        config: Its `training.json`: model, train, fingerprints.
        metrics: Metrics of training and evaluation, with the history and the loss of each clip.
        samples: Its sampled videos.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    samples: SampleSet

    @property
    def mode(self) -> str:
        """Mode of the model: serial, parallel or sum."""
        return str(self.config["model"]["mode"])

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.config["train"]["seed"])


Columns = Mapping[str, Sequence[Record]]  # by label; the records of a column differ only in their seed


def first_samples(columns: Columns) -> SampleSet:
    """Return the samples of the first column's first training; their prompts are used for all columns."""
    (first, *_), *_ = columns.values()
    return first.samples
