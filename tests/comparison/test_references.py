"""Test the references and the real videos for the samples' prompts."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.comparison.model import RealVideo, References
from mobius_pipeline.comparison.references import measure_references, real_videos, write_real_videos
from mobius_pipeline.evaluation.config import EvaluateConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.decode import open_media
from mobius_pipeline.runtime.files import write_json
from mobius_pipeline.sampling.sample_set import FRAMES, LISTING, Sample, SampleSet

EVALUATE = EvaluateConfig(seed=0, reference_clips=8, device="cpu")


@pytest.fixture
def store(tiny_store: Path) -> LatentsStore:
    return LatentsStore(tiny_store)


def write_samples(folder: Path, clips: list[str | None]) -> SampleSet:
    """Write samples of prompts, with the paths of their real clips, in the format of `sample`."""
    folder.mkdir()
    samples = [Sample(f"prompt {i}", i, f"{i:03d}.mp4", f"{i:03d}.gif", clip) for i, clip in enumerate(clips)]
    write_json(folder / LISTING, [asdict(sample) for sample in samples])
    save_file({"frames": torch.zeros(len(clips), 1)}, folder / FRAMES)
    return SampleSet(folder)


def test_real_still_and_random_clips_are_scored(
    tmp_path: Path, store: LatentsStore, sample_clips: Path, tiny_base: Path
) -> None:
    samples = write_samples(tmp_path / "serial", [*store.paths[:3], None, "gone.mp4"])
    found = measure_references(samples, store, sample_clips, BaseModel(tiny_base), EVALUATE)
    assert found.real is not None
    assert found.still is not None
    assert found.random is not None
    assert found.still.dynamic_degree == 0 != found.real.dynamic_degree
    assert found.random.dynamic_degree != found.real.dynamic_degree
    assert found == measure_references(samples, store, sample_clips, BaseModel(tiny_base), EVALUATE)


def test_random_clips_are_as_long_as_samples(
    tmp_path: Path, store: LatentsStore, sample_clips: Path, tiny_base: Path
) -> None:
    """Clips of a bucket with fewer frames are not drawn: here their files do not exist."""
    one, two = store.paths[-2:]
    store.index.loc[~store.index["path"].isin([one, two]), "frames"] = store.clip.frames - 1
    for path in (one, two):
        (tmp_path / "clips" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample_clips / path, tmp_path / "clips" / path)
    samples = write_samples(tmp_path / "serial", [one])
    for seed in range(5):
        config = EVALUATE.model_copy(update={"seed": seed})
        assert (
            measure_references(samples, store, tmp_path / "clips", BaseModel(tiny_base), config).random
            is not None
        )


def test_prompts_without_a_clip_have_no_references(
    tmp_path: Path, store: LatentsStore, sample_clips: Path, tiny_base: Path
) -> None:
    samples = write_samples(tmp_path / "serial", [None, "gone.mp4"])
    assert measure_references(samples, store, sample_clips, BaseModel(tiny_base), EVALUATE) == References()


def test_real_videos_lie_beside_the_samples_wherever_their_folder_is(
    tmp_path: Path, store: LatentsStore, sample_clips: Path
) -> None:
    samples = write_samples(tmp_path / "serial", [store.paths[0], None])
    videos = write_real_videos(samples, store, sample_clips, 2, tmp_path / "deep/of real clips")
    assert [path.name for path in videos.iterdir()] == ["000.mp4"]
    with open_media(videos / "000.mp4") as media:
        shown = next(iter(media.frames)).rgb()
    assert shown.shape == (2 * store.clip.height, 2 * store.clip.width, 3)
    assert real_videos(samples, videos, tmp_path) == [
        RealVideo(prompt="prompt 0", mp4="deep/of real clips/000.mp4"),
        RealVideo(prompt="prompt 1", mp4=None),
    ]
