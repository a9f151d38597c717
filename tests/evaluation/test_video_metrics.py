"""Known values of each measure, and inputs that must not mislead it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.evaluation.quality import reference_features, vae_encoder
from mobius_pipeline.evaluation.video_metrics import (
    compare_to_real,
    dynamic_degree,
    flicker,
    frechet_distance,
    video_features,
)
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.runtime.errors import MobiusError


def grey_video(*levels: int) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), level, dtype=np.uint8) for level in levels])[None]


def normal(count: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_a_steady_fade_moves_but_does_not_flicker() -> None:
    fade = grey_video(0, 51, 102, 153)
    assert dynamic_degree(fade) == pytest.approx(0.2)
    assert flicker(fade) == pytest.approx(0.0, abs=1e-6)


def test_alternating_frames_flicker() -> None:
    alternating = grey_video(0, 255, 0, 255, 0)
    assert flicker(alternating) == pytest.approx(2.0)
    assert dynamic_degree(alternating) == pytest.approx(1.0)  # changes back and forth do not cancel out


def test_a_still_is_zero_in_both() -> None:
    still = grey_video(90, 90, 90)
    assert (flicker(still), dynamic_degree(still)) == (0.0, 0.0)


@pytest.mark.parametrize("measure", [flicker, dynamic_degree])
def test_too_few_frames_are_refused(measure) -> None:
    with pytest.raises(MobiusError, match="at least"):
        measure(grey_video(1))


def test_frechet_distance_of_known_gaussians() -> None:
    """A shift alone adds its square in every dimension; a set lies at distance 0 from itself."""
    features = normal(50)
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance(features, features + 3) == pytest.approx(8 * 9)
    # Twice the spread: trace(S + 4 S - 2 * 2 S) = trace(S), where the mean stays.
    centred = features - features.mean(dim=0)
    expected = float(centred.T.cov().trace())
    assert frechet_distance(centred, 2 * centred) == pytest.approx(expected)


def test_frechet_distance_needs_two_of_each_and_one_extractor() -> None:
    with pytest.raises(MobiusError, match="two videos"):
        frechet_distance(normal(1), normal(5))
    with pytest.raises(MobiusError, match="extractor"):
        frechet_distance(normal(5), normal(5)[:, :4])


def test_reference_shows_the_bias_of_small_sets() -> None:
    """Same distribution: both figures are the bias, large for few videos and smaller for many."""
    few = compare_to_real(normal(10, seed=1), normal(20), seed=0)
    many = compare_to_real(normal(500, seed=1), normal(1000), seed=0)
    assert few is not None
    assert many is not None
    assert few.videos == 10
    assert few.reference > 10 * many.reference
    assert 0.3 < few.distance / few.reference < 3
    shifted = compare_to_real(normal(10, shift=3, seed=1), normal(20), seed=0)
    assert shifted is not None
    assert shifted.distance > 5 * shifted.reference


def test_no_comparison_without_enough_videos() -> None:
    assert compare_to_real(normal(1), normal(20), seed=0) is None
    assert compare_to_real(normal(20), normal(3), seed=0) is None


def test_features_tell_place_and_motion() -> None:
    """A VAE of one channel that halves the size: four cells of appearance, then four of change."""

    def encode(frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(frames[:, ::2, ::2, :1].astype(np.float32) / 255).movedim(-1, 1)

    video = np.zeros((1, 3, 16, 16, 3), dtype=np.uint8)
    video[:, :, :8, 8:] = 255  # upper right, still
    video[:, 1, 8:, :8] = 255  # lower left, a flash in the middle frame
    features = video_features(video, encode)
    assert features[0].tolist() == pytest.approx([0, 1, 1 / 3, 0, 0, 0, 1, 0])


def test_references_are_the_clips_themselves_held_out_ones_first(
    tiny_store: Path, tiny_base: Path, sample_clips: Path
) -> None:
    store = LatentsStore(tiny_store)
    clips = [*store.clips("heldout"), store.clips("train")[0]]
    videos = np.stack([load_clip(sample_clips / clip.path, tiny.CLIP) for clip in clips])
    features = reference_features(store, len(clips))
    expected = video_features(videos, vae_encoder(BaseModel(tiny_base), "cpu"))
    torch.testing.assert_close(features, expected, rtol=2e-3, atol=2e-3)  # latents are stored as fp16
    assert reference_features(store, 0).shape == (0, 0)
