"""Nodes of the `study` pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.runtime.scratch import unpublished
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.study.config import StudyConfig
from mobius_pipeline.study.model import Study
from mobius_pipeline.training.config import TrainConfig

if TYPE_CHECKING:
    from mobius_pipeline.study.cells import Laboratory
    from mobius_pipeline.study.grid import Studied
    from mobius_pipeline.study.model import Scores


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
    from mobius_pipeline.comparison.timing import paired_step_times
    from mobius_pipeline.study import grid as run
    from mobius_pipeline.study.cells import TRAINED, Cell, Laboratory
    from mobius_pipeline.study.report import SERIAL, report
    from mobius_pipeline.training.result import TrainingResult

    laboratory = Laboratory(latents, base_model.folder, base_model.unet_config, train, work / "study")
    found = run.study(laboratory, study)

    quality = _scores(laboratory, found, study, sample, evaluate)
    places = {
        name: laboratory.place(Cell(one.model, one.rate, study.seeds[0])) for name, one in found.items()
    }
    trained = {name: TrainingResult(place / TRAINED).description for name, place in places.items()}
    step_s = {SERIAL: found[SERIAL].first.step_s}
    for name in list(trained)[1:]:  # in turns with serial only: a real base would not fit all at once
        pair = {SERIAL: trained[SERIAL], name: trained[name]}
        timers = paired_step_times(pair, latents, base_model.folder, study.paired_steps)
        step_s[name] = step_s[SERIAL] * timers[name].median_s / timers[SERIAL].median_s
    return report(laboratory, found, step_s, quality)


def _scores(
    laboratory: "Laboratory",
    found: "Mapping[str, Studied]",
    study: StudyConfig,
    sample: SampleConfig,
    evaluate: EvaluateConfig,
) -> "dict[str, Scores]":
    """Score the samples of the models near the front; the VAE is freed before anything is timed."""
    from mobius_pipeline.evaluation.quality import reference_features, vae_encoder
    from mobius_pipeline.study.grid import near_front
    from mobius_pipeline.study.samples import scores

    encode = vae_encoder(laboratory.base, evaluate.device)
    features = reference_features(laboratory.store, evaluate.reference_clips)
    return {
        name: scores(laboratory, found[name], sample, features, encode, evaluate.seed)
        for name in near_front(found, study.near)
    }


def draw_study(study: Study, work: Path) -> Path:
    """Draw the Pareto fronts."""
    from mobius_pipeline.study.pictures import draw

    return draw(study, unpublished(work / "study_pictures"))
