"""Evaluated trainings, and their columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobius_pipeline.sampling.sample_set import SampleSet


@dataclass(frozen=True)
class Record:
    """An evaluated training.

    Attributes:
        config: Its `training.json`: model, train, fingerprints.
        metrics: What was measured in training and evaluation, with the history and the loss by clip.
        samples: Its videos.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    samples: SampleSet

    @property
    def mode(self) -> str:
        """Serial, parallel or sum."""
        return str(self.config["model"]["mode"])

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.config["train"]["seed"])


Columns = Mapping[str, Sequence[Record]]  # by label; those of one differ in their seed alone


def first_samples(columns: Columns) -> SampleSet:
    """The samples of the first column's first training, with whose prompts all others are compared."""
    (first, *_), *_ = columns.values()
    return first.samples
