"""Sources with several scenes: where they are cut, and that segments have exactly the frames named."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobius_pipeline.ingest.config import IngestConfig, ScenesConfig, WindowsConfig
from mobius_pipeline.ingest.describe import describe
from mobius_pipeline.ingest.segments import spans
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm

CLIP = ClipFormat(frames=4, height=32, width=48, fps=12)
FPS = 12
SCENES = (18, 14, 24)  # frames
WRITERS = {"mp4": write_mp4, "webm": write_webm, "gif": write_gif}


def scene(seed: int, count: int) -> np.ndarray:
    """A picture of blocks that slides to the right by one pixel per frame."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    return np.stack([np.roll(blocks, step, axis=1) for step in range(count)])


FILM = np.concatenate([scene(seed, count) for seed, count in enumerate(SCENES)])


@pytest.fixture(scope="module", params=WRITERS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / f"film.{request.param}"
    WRITERS[request.param](path, FILM, FPS)
    return path


def config(**settings: Any) -> IngestConfig:
    return IngestConfig(heldout_share=0.5, files_per_batch=1, **settings)


def segments(film: Path, **settings: Any) -> list[dict[str, Any]]:
    rows = describe(film.parent, film.name, config(**settings), CLIP)
    assert {row["status"] for row in rows} == {"ok"}
    return rows


@pytest.mark.parametrize(("detector", "threshold"), [("content", 27), ("adaptive", 3)])
def test_a_film_is_cut_where_its_scenes_change(detector: Any, threshold: float, film: Path) -> None:
    scenes = ScenesConfig(detector=detector, threshold=threshold, min_length_s=0.5)
    rows = segments(film, scenes=scenes)
    assert [(row["start_frame"], row["end_frame"]) for row in rows] == [(0, 18), (18, 32), (32, 56)]
    assert [row["frames"] for row in rows] == list(SCENES)
    assert sum(row["duration_s"] for row in rows) == pytest.approx(len(FILM) / FPS, abs=0.02)
    assert rows[0]["path"].startswith(f"{film.name}#t=0,1.5")


def test_a_segment_is_read_as_its_frames(film: Path) -> None:
    scenes = ScenesConfig(detector="content", threshold=27, min_length_s=0.5)
    for row in segments(film, scenes=scenes):
        clip = load_clip(film.parent / row["path"], CLIP)
        shown = FILM[row["start_frame"] : row["start_frame"] + 4, :32, :48]
        whole = load_clip(film, CLIP.model_copy(update={"frames": len(FILM)}))
        assert (clip == whole[row["start_frame"] : row["start_frame"] + 4]).all()
        assert clip.shape == shown.shape


def test_a_scene_is_no_shorter_than_asked(film: Path) -> None:
    scenes = ScenesConfig(detector="content", threshold=27, min_length_s=2)
    assert len(segments(film, scenes=scenes)) < 3


def test_one_scene_keeps_the_name_of_its_file(tmp_path: Path) -> None:
    write_mp4(tmp_path / "one.mp4", scene(0, 20), FPS)
    scenes = ScenesConfig(detector="content", threshold=27, min_length_s=0.5)
    (row,) = segments(tmp_path / "one.mp4", scenes=scenes)
    assert row["path"] == "one.mp4"
    assert row == segments(tmp_path / "one.mp4")[0]


def test_windows_cut_each_scene_and_leave_out_nothing(film: Path) -> None:
    rows = segments(
        film,
        scenes=ScenesConfig(detector="content", threshold=27, min_length_s=0.5),
        windows=WindowsConfig(length_s=0.5, stride_s=0.5),
    )
    assert [row["frames"] for row in rows] == [6, 6, 6, 6, 6, 2, 6, 6, 6, 6]
    ends = [(row["start_frame"], row["end_frame"]) for row in rows]
    assert ends[0][0] == 0
    assert ends[-1][1] == len(FILM)
    assert all(earlier[1] == later[0] for earlier, later in pairwise(ends))
    assert len({row["path"] for row in rows}) == len(rows)


def test_windows_overlap_as_their_stride_says() -> None:
    starts = [index / 10 for index in range(30)]
    found = spans(starts, 3.0, [], WindowsConfig(length_s=1, stride_s=0.5))
    assert found == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.5, 2.5), (2.0, 3.0)]
    rest = spans([index / 10 for index in range(32)], 3.2, [], WindowsConfig(length_s=1, stride_s=0.5))
    assert rest == [*found, (2.5, 3.2)]


def test_a_rest_between_two_measured_frames_is_a_segment(tmp_path: Path) -> None:
    """At 24 frames per second and a model's rate of 2, the last frame is not measured."""
    write_mp4(tmp_path / "film.mp4", scene(0, 25), 24)
    clip = CLIP.model_copy(update={"fps": 2})
    windows = WindowsConfig(length_s=0.5, stride_s=0.5)
    rows = describe(tmp_path, "film.mp4", config(windows=windows), clip)
    assert [row["frames"] for row in rows] == [12, 12, 1]
    assert {row["status"] for row in rows} == {"ok"}
    write_mp4(tmp_path / "longer.mp4", scene(0, 22), 24)
    rows = describe(tmp_path, "longer.mp4", config(windows={"length_s": 0.875, "stride_s": 0.875}), clip)
    assert [row["frames"] for row in rows] == [21, 1]
    assert rows[1]["motion"] == 0


def test_cuts_move_to_the_nearest_frame() -> None:
    assert spans([0.0, 0.4, 0.8, 1.2], 1.6, [0.801], None) == [(0.0, 0.8), (0.8, 1.6)]
    assert spans([0.0, 0.4], 0.8, [0.0], None) == [(0.0, 0.8)]
