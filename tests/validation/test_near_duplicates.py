"""Near-duplicates: the same video encoded differently, but not videos that only share a background."""

import numpy as np
import pytest
from PIL import Image

from ingested import ingested
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm
from mobius_pipeline.validation.near_duplicates import first_alike

SIZE = 96
CLIP = ClipFormat(frames=8, height=64, width=64, fps=8)


def film(seed: int, background: int | None = None) -> np.ndarray:
    """One second of a sliding picture in soft colours; with `background`, in the middle of another one."""
    picture = landscape(seed, 2 * SIZE)
    if background is not None:
        behind = landscape(background, 2 * SIZE)
        frames = np.stack([behind[:SIZE, :SIZE]] * 12)
        for step, frame in enumerate(frames):
            frame[16:80, 16:80] = picture[step : step + 64, 4 * step : 4 * step + 64]
        return frames
    return np.stack([picture[:SIZE, 4 * step : 4 * step + SIZE] for step in range(12)])


def landscape(seed: int, size: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def duplicates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    frames = film(1)
    write_mp4(folder / "a.mp4", frames, 12)
    small = np.stack([np.asarray(Image.fromarray(frame).resize((80, 80))) for frame in frames])
    write_webm(folder / "b scaled.webm", small, 12)
    dim = np.clip(frames * 0.9 + rng.normal(0, 3, frames.shape), 0, 255).astype(np.uint8)
    write_gif(folder / "c dimmed.gif", dim, 12)
    write_mp4(folder / "d other film.mp4", film(2), 12)
    write_mp4(folder / "e before a wall.mp4", film(3, background=1), 12)
    write_mp4(folder / "f before the same wall.mp4", film(4, background=1), 12)
    ingest = IngestConfig(heldout_share=0.5, files_per_batch=2)
    table = ingested(folder, ingest, CLIP, tmp_path_factory.mktemp("work"))
    paths = table["path"].tolist()
    first = first_alike(table["likeness"].tolist(), 20)
    return {path: paths[kept] for path, kept in zip(paths, first, strict=True)}


def test_copies_in_other_clothes_name_the_first(duplicates: dict[str, str]) -> None:
    assert duplicates["b scaled.webm"] == duplicates["c dimmed.gif"] == "a.mp4"


def test_clips_on_the_same_background_are_no_copies(duplicates: dict[str, str]) -> None:
    alone = [name for name, first in duplicates.items() if first == name]
    assert alone == ["a.mp4", "d other film.mp4", "e before a wall.mp4", "f before the same wall.mp4"]


def hexed(number: int) -> str:
    return f"{number:048x}"


@pytest.mark.parametrize("bits", [0, 3, 8])
def test_the_distance_is_exact(bits: int) -> None:
    """Against every pair, with distances on both sides of the limit."""
    rng = np.random.default_rng(bits)
    base = [int.from_bytes(rng.bytes(24), "big") for _ in range(20)]
    flips = [sum(1 << int(bit) for bit in rng.choice(192, rng.integers(0, 14), False)) for _ in range(200)]
    numbers = base + [base[index % 20] ^ flip for index, flip in enumerate(flips)]
    expected: list[int] = []
    for place, number in enumerate(numbers):
        near = [
            other
            for other in range(place)
            if expected[other] == other and (number ^ numbers[other]).bit_count() <= bits
        ]
        expected.append(near[0] if near else place)
    assert first_alike([hexed(number) for number in numbers], bits) == expected


def test_clips_without_a_hash_are_like_no_other() -> None:
    assert first_alike(["", "", "00", "00", ""], 2) == [0, 1, 2, 2, 4]
    assert first_alike([], 2) == []
