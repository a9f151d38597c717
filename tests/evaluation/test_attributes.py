"""Attributes are recognised on damaged real clips, and trivial videos do not score well."""

import io
import random

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mobius_pipeline.evaluation.attributes import Recognised, recognise, score, scores
from mobius_pipeline.sources.scenes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    Scene,
    caption,
    render,
    scenes,
)

SCENES = scenes(108, seed=3)
PROMPTS = [caption(scene) for scene in SCENES]


def clip_of(scene: Scene, rng: random.Random) -> np.ndarray:
    """A sample clip as a model sees it: 8 frames of the first second, 64 px."""
    offset = rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)
    times = [index / 8 for index in range(8)]
    return render(scene, times=times, height=64, width=64, size=rng.uniform(0.3, 0.42), offset=offset)


def clips_of(some: list[Scene]) -> list[np.ndarray]:
    rng = random.Random(0)
    return [clip_of(scene, rng) for scene in some]


@pytest.fixture(scope="module")
def real_clips() -> list[np.ndarray]:
    return clips_of(SCENES)


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def damaged(frames: np.ndarray, blur: float, noise: float, quality: int) -> np.ndarray:
    blurred = ndimage.gaussian_filter(frames.astype(float), (0, blur, blur, 0))
    noisy = blurred + np.random.default_rng(0).normal(0, noise, frames.shape)
    return np.stack([jpeg(frame, quality) for frame in noisy.clip(0, 255).astype(np.uint8)])


@pytest.mark.parametrize(
    ("blur", "noise", "quality"), [(0, 0, 95), (2, 0, 95), (0, 25, 95), (0, 0, 20), (1.5, 15, 30)]
)
def test_damaged_real_clips_are_read(
    real_clips: list[np.ndarray], blur: float, noise: float, quality: int
) -> None:
    result = scores([damaged(clip, blur, noise, quality) for clip in real_clips], PROMPTS)
    assert result["prompt_match"] is not None
    assert result["prompt_match"] > 0.95


def test_every_word_is_recognised() -> None:
    for index in range(6):
        scene = Scene(SHAPES[index], list(COLOURS)[index], MOTIONS[index], list(BACKGROUNDS)[index % 3])
        seen = recognise(clip_of(scene, random.Random(index)))
        assert seen == Recognised(scene.colour, scene.shape, scene.motion)


def test_frame_sizes_and_counts_do_not_matter() -> None:
    scene = Scene("triangle", "cyan", "climbing", "grey")
    frames = render(scene, times=np.linspace(0, 0.875, 16).tolist(), height=48, width=96)
    assert recognise(frames) == Recognised("cyan", "triangle", "climbing")


def test_stills_show_colour_and_shape_and_no_motion(real_clips: list[np.ndarray]) -> None:
    stills = [np.repeat(clip[:1], 8, axis=0) for clip in real_clips]
    result = scores(stills, PROMPTS)
    assert result["motion"] == 0
    assert result["prompt_match"] == 0
    assert result["shape"] is not None
    assert result["shape"] > 0.9


def test_shuffled_frames_show_no_motion(real_clips: list[np.ndarray]) -> None:
    """The right frames in random order, as a T2I base generates them, are not motion."""
    order = np.random.default_rng(0)
    shuffled = [clip[order.permutation(8)] for clip in real_clips]
    result = scores(shuffled, PROMPTS)
    assert result["motion"] is not None
    assert result["motion"] < 0.1


def test_other_clips_score_chance(real_clips: list[np.ndarray]) -> None:
    others = [*real_clips]
    random.Random(1).shuffle(others)
    result = scores(others, PROMPTS)
    for name in ("colour", "shape", "motion"):
        assert result[name] == pytest.approx(1 / 6, abs=0.12)
    assert result["prompt_match"] == pytest.approx(0, abs=0.05)


def test_no_constant_video_wins(real_clips: list[np.ndarray]) -> None:
    """One clip for all prompts is right only as often as its words are in the prompts."""
    for clip in real_clips[:4]:
        result = scores([clip] * len(PROMPTS), PROMPTS)
        for name in ("colour", "shape", "motion"):
            assert result[name] == pytest.approx(1 / 6, abs=1e-9)
        assert result["prompt_match"] == pytest.approx(1 / 216, abs=3 / 216)  # 108 of 216 are prompted


def test_averages_of_clips_do_not_win(real_clips: list[np.ndarray]) -> None:
    """The mean clip, which a model that ignores its prompt might sample, shows almost no attribute."""
    mean = np.mean(real_clips, axis=0).astype(np.uint8)
    result = scores([mean] * len(PROMPTS), PROMPTS)
    assert result["prompt_match"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (225, 25, 25)])
def test_plain_frames_show_nothing(colour: tuple[int, int, int]) -> None:
    plain = np.broadcast_to(np.array(colour, dtype=np.uint8), (8, 64, 64, 3))
    assert recognise(plain) == Recognised(None, None, None)


def test_noise_shows_no_shape_and_no_motion() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    seen = recognise(noise)
    assert (seen.shape, seen.motion) == (None, None)


def test_grey_shapes_have_no_colour() -> None:
    clip = clip_of(Scene("bar", "red", "growing", "white"), random.Random(0))
    grey = np.repeat(clip.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    assert recognise(grey) == Recognised(None, "bar", "growing")


def test_free_captions_are_not_scored() -> None:
    clip = clip_of(SCENES[0], random.Random(0))
    assert score(clip, "a cat on a sofa") is None
    assert scores([clip], ["a cat on a sofa"])["prompt_match"] is None
