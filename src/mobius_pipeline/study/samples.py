"""Samples of a study's models, and their measures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobius_pipeline.evaluation.quality import quality
from mobius_pipeline.evaluation.video_metrics import Encode, Pixels
from mobius_pipeline.runtime.files import digest, read_document, write_json
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.sampling.sample import sample_videos
from mobius_pipeline.study.cells import SAMPLES, TRAINED, Cell, Laboratory
from mobius_pipeline.study.grid import Studied
from mobius_pipeline.training.result import TrainingResult


def scores(
    laboratory: Laboratory, one: Studied, config: SampleConfig, features: Any, encode: Encode, seed: int
) -> dict[str, Any]:
    """Measure a model's samples, averaged over its seeds; existing measures are read.

    Args:
        laboratory: Data and settings of the trainings.
        one: The model.
        config: Prompts and sampling settings.
        features: Features of real clips, (M, D).
        encode: The extractor of these features.
        seed: Seed for drawing the real clips.
    """
    found = [
        _scores(laboratory, Cell(one.model, one.rate, training), config, features, encode, seed)
        for training in one.seeds
    ]
    numbers = {key for key, value in found[0].items() if isinstance(value, int | float)}
    means = {key: sum(one[key] for one in found) / len(found) for key in sorted(numbers)}
    return {**means, "samples": sum(one["frechet_videos"] for one in found)}


def _scores(
    laboratory: Laboratory, cell: Cell, config: SampleConfig, features: Any, encode: Encode, seed: int
) -> Mapping[str, Any]:
    place: Path = laboratory.place(cell)
    given = [config.model_dump(), digest(features.tolist()), seed]
    file = place / f"quality-{digest(given)[:12]}.json"
    if not file.is_file():
        samples = sample_videos(
            TrainingResult(place / TRAINED).pipeline(laboratory.base),
            laboratory.store,
            config,
            laboratory.store.clip.rate,
            place / SAMPLES,
        )
        videos: Pixels = samples.frames.numpy()
        write_json(file, quality(videos, samples.prompts, features, encode, seed))
    return read_document(
        file, dict[str, Any], f"Delete it (`rm '{file}'`) and run `kedro run --pipelines=study`."
    )
