"""Frame statistics tell moving, frozen, black and flickering clips apart."""

from pathlib import Path

import numpy as np
import pytest

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.describe import describe
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm

CLIP = ClipFormat(frames=4, height=32, width=48, fps=8)
INGEST = IngestConfig(heldout_share=0.5, files_per_batch=1)
COUNT = 24
PICTURE = (
    np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
)

CLIPS = {
    "fast": np.stack([np.roll(PICTURE, 8 * step, axis=1) for step in range(COUNT)]),
    "slow": np.stack([np.roll(PICTURE, step, axis=1) for step in range(COUNT)]),
    "frozen": np.stack([PICTURE] * COUNT),
    "black": np.zeros((COUNT, *PICTURE.shape), np.uint8),
    "half black": np.stack([PICTURE if step < COUNT // 2 else 0 * PICTURE for step in range(COUNT)]),
    "flickering": np.stack([PICTURE // (1 + step // 3 % 2) for step in range(COUNT)]),
    "fading": np.stack([(PICTURE * (step / COUNT)).astype(np.uint8) for step in range(COUNT)]),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("clips")
    found = {}
    for name, frames in CLIPS.items():
        write_mp4(folder / f"{name}.mp4", frames, 24)
        (found[name],) = describe(folder, f"{name}.mp4", INGEST, CLIP)
    return found


def test_motion(measured: dict[str, dict[str, float]]) -> None:
    motion = {name: row["motion"] for name, row in measured.items()}
    assert motion["frozen"] == motion["black"] == 0
    assert motion["fast"] > 2 * motion["slow"] > 4


def test_static_share(measured: dict[str, dict[str, float]]) -> None:
    assert measured["frozen"]["static_share"] == 1
    assert measured["half black"]["static_share"] == pytest.approx(6 / 7, abs=0.01)
    assert measured["slow"]["static_share"] == 0


def test_black_share(measured: dict[str, dict[str, float]]) -> None:
    assert measured["black"]["black_share"] == 1
    assert measured["half black"]["black_share"] == 0.5
    assert measured["frozen"]["black_share"] == 0


def test_flicker(measured: dict[str, dict[str, float]]) -> None:
    flicker = {name: row["flicker"] for name, row in measured.items()}
    assert flicker["flickering"] > 20 * max(flicker[name] for name in ("fast", "slow", "frozen", "fading"))


def test_shape(measured: dict[str, dict[str, float]]) -> None:
    assert {row["aspect"] for row in measured.values()} == {1.5}


@pytest.mark.parametrize("fps", [8, 24, 48])
def test_measures_do_not_depend_on_the_rate_of_the_file(fps: int, tmp_path: Path) -> None:
    """One second of the same motion; the model's rate is 8."""
    frames = np.stack([np.roll(PICTURE, round(96 * step / fps), axis=1) for step in range(fps)])
    write_gif(tmp_path / "clip.gif", frames, fps)
    (row,) = describe(tmp_path, "clip.gif", INGEST, CLIP)
    exact = np.stack([np.roll(PICTURE, 12 * step, axis=1) for step in range(8)]).mean(-1)
    assert row["motion"] == pytest.approx(np.abs(np.diff(exact, axis=0)).mean(), rel=0.25)


def test_a_pause_after_slow_frames_is_not_made_up_for(tmp_path: Path) -> None:
    """3, then 48 frames per second: each step of the model counts at most once."""
    still = np.stack([PICTURE] * 6)
    write_webm(tmp_path / "clip.webm", still, 3)
    (row,) = describe(tmp_path, "clip.webm", INGEST, CLIP)
    assert row["static_share"] == 1
