"""The evaluation of a training: the figures that DVC's tables show."""

from typing import Self

from pydantic import Field

from mobius_pipeline.evaluation.scores import Quality, RecordedQuality
from mobius_pipeline.training.metrics import Figures, Metrics


class Evaluation(Figures):
    """Figures and scores of a training: contents of `data/08_reporting/<mode>/metrics.json`."""

    run_id: str = Field(description="MLflow run")
    quality: RecordedQuality
    heldout_loss_at_steps: float | None = Field(
        default=None, description="loss at `train.steps`; null: the training did not reach it"
    )

    @classmethod
    def of(cls, metrics: Metrics, run_id: str, quality: Quality) -> Self:
        """Return the evaluation of a training whose samples have these scores."""
        at_steps = metrics.heldout_at_steps
        return cls(
            **metrics.figures.model_dump() | {"run_id": run_id},
            quality=quality,
            heldout_loss_at_steps=at_steps and at_steps.loss,
        )
