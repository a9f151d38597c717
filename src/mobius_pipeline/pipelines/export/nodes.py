"""The export's node: one for both modes."""

from pathlib import Path

from mobius_pipeline.runtime.scratch import unpublished


def export(weights: Path, base_model: Path, work: Path) -> Path:
    """Write a training's result with its base as one folder."""
    from mobius_pipeline.models.export import export
    from mobius_pipeline.training.result import refuse_other_mode

    refuse_other_mode(weights, weights.name)
    return export(weights, base_model, unpublished(work / "exported" / weights.name))
