"""Node of the `export` pipelines of both modes."""

from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.training.result import TrainingResult


def export(trained: TrainingResult, base_model: BaseModel, work: Path) -> Path:
    """Write a trained model together with its base into one folder."""
    from mobius_pipeline.models.export import export

    return export(trained.folder, base_model.folder, unpublished(work / "exported" / trained.mode))
