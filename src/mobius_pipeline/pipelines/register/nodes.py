"""Node of the `register` pipeline."""

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.model import Comparison
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.registry.config import RegisterConfig
from mobius_pipeline.registry.registration import Registration
from mobius_pipeline.training.result import TrainingResult


def register(
    comparison: Comparison,
    serial: TrainingResult,
    parallel: TrainingResult,
    base_model: BaseModel,
    latents: LatentsStore,
    register: RegisterConfig,
) -> Registration:
    """Register the comparison's better column as a model version in MLflow; return a record of it."""
    from mobius_pipeline.registry import register as registry

    return registry.register(comparison, (serial, parallel), base_model, latents.clip, register)
