"""Trainings to compare, grouped by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.sampling.sample_set import SampleSet
from mobius_pipeline.training.description import Description
from mobius_pipeline.training.metrics import Metrics


@dataclass(frozen=True)
class Training:
    """A finished training: its settings, and what it measured."""

    description: Description
    metrics: Metrics

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.description.seed


@dataclass(frozen=True)
class Record(Training):
    """An evaluated training: also its MLflow run, its sampled videos and their scores."""

    run_id: str
    quality: Quality
    samples: SampleSet


Trainings = Mapping[str, Sequence[Training]]  # by label; those of a column differ only in their seed
Columns = Mapping[str, Sequence[Record]]


def first_samples(columns: Columns) -> SampleSet:
    """Return the samples of the first column's first training; their prompts are used for all columns."""
    (first, *_), *_ = columns.values()
    return first.samples
