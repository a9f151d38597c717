"""What a caption of a sample clip says can be seen in its pixels."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.sources.sample_clips import SampleClipsConfig, is_complete, plan_shots, write_set
from mobius_pipeline.sources.scenes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    Scene,
    caption,
    parse_caption,
    render,
    scenes,
)
from probing import probe

EVERY = [Scene(*words) for words in itertools.product(SHAPES, COLOURS, MOTIONS, BACKGROUNDS)]
TIMES = [step / 8 for step in range(13)]  # 1.5 s
CONFIG = {
    "clips": 8,
    "seed": 1,
    "frame_rates": [8, 24],
    "sizes": [(64, 64), (72, 96)],
    "seconds": (1.0, 1.2),
    "shape_size": (0.34, 0.4),
    "workers": 2,
}


def drawn(scene: Scene, **options: object) -> np.ndarray:
    """Where a scene's frames differ from its background, bool (F, H, W)."""
    frames = render(scene, **{"times": TIMES, "height": 64, "width": 64, **options})
    return (np.abs(frames.astype(int) - BACKGROUNDS[scene.background]).max(axis=-1)) > 40


def centres(masks: np.ndarray) -> np.ndarray:
    """Centre of each mask as (x, y), in px."""
    return np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in masks])


def test_captions_read_back() -> None:
    assert [parse_caption(caption(scene)) for scene in EVERY] == EVERY
    assert caption(EVERY[0]) == "a red circle sliding right on a white background"


@pytest.mark.parametrize(
    "text", ["", "a cat", "a red circle", "a red circle falling on a white background, twice"]
)
def test_other_text_is_no_caption(text: str) -> None:
    assert parse_caption(text) is None


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_colours_are_in_the_pixels(colour: str, background: str) -> None:
    frames = render(Scene("circle", colour, "growing", background), times=[1.0], height=64, width=64)
    assert tuple(frames[0, 32, 32]) == COLOURS[colour]
    assert tuple(frames[0, 0, 0]) == BACKGROUNDS[background]


@pytest.mark.parametrize(
    ("motion", "right", "down"),
    [("sliding right", 1, 0), ("falling", 0, 1), ("climbing", 1, -1), ("diving", 1, 1)],
)
def test_movement_goes_its_way_and_back(motion: str, right: int, down: int) -> None:
    path = centres(drawn(Scene("circle", "red", motion, "white"))) / 64
    for axis, sign in enumerate((right, down)):
        there, back = np.diff(path[:9, axis]), np.diff(path[8:, axis])
        if sign:
            assert (there * sign > 0).all()
            assert (back * sign < 0).all()
            assert abs(path[8, axis] - path[0, axis]) > 0.4  # of the frame, in a second
        else:
            assert np.ptp(path[:, axis]) < 0.01


def test_a_circle_is_round_and_closes() -> None:
    path = centres(drawn(Scene("bar", "red", "circling", "white"), times=[i / 8 for i in range(9)])) / 64
    distances = np.linalg.norm(path - path[:8].mean(axis=0), axis=1)
    assert distances == pytest.approx(0.31, abs=0.02)
    assert path[8] == pytest.approx(path[0], abs=0.01)
    assert path[2, 0] > path[0, 0]  # clockwise from the top
    assert path[2, 1] > path[0, 1]


def test_size_goes_its_way_and_back() -> None:
    areas = drawn(Scene("cross", "cyan", "growing", "black")).sum(axis=(1, 2)).astype(float)
    assert (np.diff(areas[:9]) > 0).all()
    assert (np.diff(areas[8:]) < 0).all()
    assert areas[8] / areas[0] > 3


@pytest.mark.parametrize("fps", [8, 12, 16, 24, 25])
@pytest.mark.parametrize("motion", MOTIONS)
def test_no_frame_repeats_the_one_before(fps: int, motion: str) -> None:
    """GIF and WebP would keep only one of the two."""
    frames = render(
        Scene("circle", "red", motion, "white"), times=[i / fps for i in range(40)], height=64, width=64
    )
    assert all((one != other).any() for one, other in itertools.pairwise(frames))


def test_shapes_differ() -> None:
    masks = {shape: drawn(Scene(shape, "blue", "growing", "white"), times=[1.0])[0] for shape in SHAPES}
    for one, other in itertools.combinations(masks.values(), 2):
        assert (one & other).sum() / (one | other).sum() < 0.85


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (128, 64)])
def test_a_centre_crop_loses_nothing(height: int, width: int) -> None:
    """Up to a quarter of a pixel, because Pillow includes the last of four supersampled pixels."""
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    for shape, motion in itertools.product(SHAPES, MOTIONS):
        scene = Scene(shape, "red", motion, "white")
        frames = render(scene, times=TIMES, height=height, width=width, size=0.4, offset=(0.03, -0.03))
        frames[:, top : top + side, left : left + side] = BACKGROUNDS["white"]
        assert frames.min() >= 255 * 3 / 4


def test_edges_are_antialiased() -> None:
    frame = render(Scene("circle", "red", "growing", "white"), times=[1.0], height=64, width=64)[0]
    assert len(np.unique(frame[..., 1])) > 4


def test_rendering_is_deterministic() -> None:
    one, other = (render(EVERY[7], times=TIMES, height=64, width=96) for _ in range(2))
    assert (one == other).all()


def test_scenes_are_balanced_and_distinct() -> None:
    chosen = scenes(288, seed=7)
    assert chosen == scenes(288, seed=7)
    assert chosen != scenes(288, seed=8)
    assert len(set(chosen)) == 288
    for word in ("shape", "colour", "motion", "background"):
        counts = Counter(getattr(scene, word) for scene in chosen)
        assert len(set(counts.values())) == 1
    assert set(scenes(648, seed=7)) == set(EVERY)


def test_a_set_is_what_its_captions_say(tmp_path: Path) -> None:
    config = SampleClipsConfig(**CONFIG)
    write_set(tmp_path, config)
    table = pd.read_csv(tmp_path / "captions.csv")
    assert [parse_caption(text) for text in table["caption"]] == [shot.scene for shot in plan_shots(config)]
    assert Counter(table["file"].str.split(".").str[-1]) == {"mp4": 2, "webm": 2, "gif": 2, "webp": 2}
    for shot in plan_shots(config):
        found = probe(tmp_path / shot.file)
        assert (found.frames, found.height, found.width) == (shot.frames, shot.height, shot.width)
        assert found.fps == pytest.approx(shot.fps, rel=0.02)


def test_a_set_that_is_there_is_recognised(tmp_path: Path) -> None:
    config = SampleClipsConfig(**CONFIG)
    assert not is_complete(tmp_path / "none", config)
    write_set(tmp_path, config)
    assert is_complete(tmp_path, config)
    assert not is_complete(tmp_path, SampleClipsConfig(**CONFIG | {"seed": 2}))
    next(tmp_path.glob("*.gif")).unlink()
    assert not is_complete(tmp_path, config)


def test_other_peoples_clips_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(MobiusError, match=r"holds files that are not sample clips.*globals.yml"):
        is_complete(tmp_path, SampleClipsConfig(**CONFIG))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sizes": [(63, 64)]}, "must be even"),
        ({"seconds": (2.0, 1.0)}, "shortest, longest"),
        ({"shape_size": (0.4, 0.9)}, "stay in the frame"),
        ({"shape_size": (0.4, 0.63)}, "at most 0.63, so that"),
        ({"clip": 3}, "clip"),
    ],
)
def test_an_impossible_set_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SampleClipsConfig(**CONFIG | change)
