"""Samples of a study's models, and their measures."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mobius_pipeline.comparison.columns import mean_of_scores
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.evaluation.quality import quality, reference_features, vae_encoder
from mobius_pipeline.evaluation.scores import Quality, RecordedQuality
from mobius_pipeline.evaluation.video_metrics import Encode
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.runtime.files import digest, read_document, write_json
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.sampling.sample import sample_videos
from mobius_pipeline.study.cells import SAMPLES, Cell, Laboratory
from mobius_pipeline.study.grid import Studied, near_front
from mobius_pipeline.study.model import Scores


def scores_near_front(
    laboratory: Laboratory,
    found: Mapping[str, Studied],
    near: float,
    sample: SampleConfig,
    evaluate: EvaluateConfig,
) -> dict[str, Scores]:
    """Score the samples of the models near the front, by name; see `near_front`."""
    encode = vae_encoder(laboratory.base, evaluate.device)  # freed on return
    features = reference_features(laboratory.store, evaluate.reference_clips)
    return {
        name: scores(laboratory, found[name], sample, features, encode, evaluate.seed)
        for name in near_front(found, near)
    }


def scores(
    laboratory: Laboratory, one: Studied, config: SampleConfig, features: Tensor, encode: Encode, seed: int
) -> Scores:
    """Score a model's samples, averaged over its seeds; existing scores are read.

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
    videos = sum(int(one.frechet_videos or 0) for one in found)
    return Scores(**dict(mean_of_scores(found)), samples=videos)


def _scores(
    laboratory: Laboratory, cell: Cell, config: SampleConfig, features: Tensor, encode: Encode, seed: int
) -> Quality:
    place: Path = laboratory.folder_of(cell)
    given = [config.model_dump(), digest(features.tolist()), seed]
    file = place / f"quality-{digest(given)[:12]}.json"
    if not file.is_file():
        samples = sample_videos(
            laboratory.result(cell).pipeline(laboratory.base),
            laboratory.store,
            config,
            laboratory.store.clip.rate,
            place / SAMPLES,
        )
        videos: Pixels = samples.frames.numpy()
        scored = quality(videos, samples.prompts, features, encode, seed)
        write_json(file, scored.model_dump(mode="json"))
    found: Quality = read_document(
        file, RecordedQuality, f"Delete it (`rm '{file}'`) and run `kedro run --pipelines=study`."
    )
    return found
