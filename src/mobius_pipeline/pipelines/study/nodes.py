"""Nodes of the `study` pipeline."""

from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.study.config import StudyConfig
from mobius_pipeline.study.model import Study
from mobius_pipeline.training.config import TrainConfig


def run_study(
    latents: LatentsStore,
    base_model: BaseModel,
    train: TrainConfig,
    study: StudyConfig,
    sample: SampleConfig,
    evaluate: EvaluateConfig,
    work: Path,
) -> Study:
    """Train every model of the study, sample from those near the front, time all, and compare them.

    A stopped study continues where it stopped; trainings with the same settings are not repeated.
    """
    from mobius_pipeline.study import grid
    from mobius_pipeline.study.cells import Laboratory
    from mobius_pipeline.study.report import report
    from mobius_pipeline.study.samples import scores_near_front
    from mobius_pipeline.study.timing import step_times

    laboratory = Laboratory(latents, base_model, train, work / "study")
    found = grid.study(laboratory, study)
    quality = scores_near_front(laboratory, found, study.near, sample, evaluate)  # before anything is timed
    return report(laboratory, found, step_times(laboratory, found, study.paired_steps), quality)


def draw_study(study: Study, work: Path) -> Path:
    """Draw the Pareto fronts."""
    from mobius_pipeline.study.pictures import draw

    return draw(study, unpublished(work / "study_pictures"))
