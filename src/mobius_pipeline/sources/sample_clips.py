"""Render a folder of sample clips: scenes in four formats, with different rates, sizes and lengths."""

import csv
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, model_validator

from mobius_pipeline.media.decode import Pixels
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm, write_webp
from mobius_pipeline.runtime.config import Config, Seed
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import digest, read_document, write_json
from mobius_pipeline.runtime.progress import track
from mobius_pipeline.sources.scenes import LARGEST, Scene, caption, render, scenes

T = TypeVar("T")
log = logging.getLogger(__name__)

FINGERPRINT_FILE = "sample.json"
# Part of the fingerprint: increase it when the drawing or the settings of an encoder change.
_RENDERER = 2
_WRITERS: dict[str, Callable[[Path, Pixels, float], None]] = {
    "mp4": write_mp4,
    "webm": write_webm,
    "gif": write_gif,
    "webp": write_webp,
}
_MAX_OFFSET = 0.03  # as a share of the central square's side


class SampleClipsConfig(Config):
    """Settings of `sample_data`, in `conf/<env>/parameters_sample_data.yml`.

    Attributes:
        clips: Number of clips.
        seed: Seed for the choice of scenes, formats, rates, sizes and lengths.
        frame_rates: Frames per second, spread evenly over the clips.
        sizes: Heights and widths in px, even numbers, spread evenly over the clips.
        seconds: Shortest and longest length of a clip.
        shape_size: Smallest and largest side of a shape, as a share of the frame's shorter side.
        workers: Number of rendering processes.
    """

    clips: int = Field(gt=0)
    seed: Seed
    frame_rates: list[float] = Field(min_length=1)
    sizes: list[tuple[int, int]] = Field(min_length=1)
    seconds: tuple[float, float]
    shape_size: tuple[float, float]
    workers: int = Field(gt=0)

    @model_validator(mode="after")
    def _possible(self) -> "SampleClipsConfig":
        if any(side % 2 or side <= 0 for size in self.sizes for side in size):
            raise ValueError(
                f"sample_data.sizes must be even (yuv420p video allows no others), not {self.sizes}"
            )
        if not 0 < self.seconds[0] <= self.seconds[1]:
            raise ValueError(f"sample_data.seconds must be [shortest, longest], not {self.seconds}")
        limit = (1 - 2 * _MAX_OFFSET) / LARGEST
        if not 0 < self.shape_size[0] <= self.shape_size[1] <= limit:
            raise ValueError(
                f"sample_data.shape_size must be [smallest, largest] of at most {limit:.2f}, so that growing "
                f"shapes stay in the frame, not {self.shape_size}"
            )
        return self


@dataclass(frozen=True)
class Shot:
    """One clip to write: a scene, and how it is rendered (`height` and `width` in px)."""

    file: str
    scene: Scene
    fps: float
    frames: int
    height: int
    width: int
    size: float
    offset: tuple[float, float]


def plan_shots(config: SampleClipsConfig) -> list[Shot]:
    """Plan every clip: formats, rates and frame sizes are spread evenly, lengths and shape sizes random."""
    rng = random.Random(config.seed)
    suffixes = _spread(list(_WRITERS), config.clips, rng)
    rates = _spread(config.frame_rates, config.clips, rng)
    sizes = _spread(config.sizes, config.clips, rng)
    return [
        Shot(
            file=f"clip-{index:04d}.{suffixes[index]}",
            scene=scene,
            fps=rates[index],
            frames=round(rng.uniform(*config.seconds) * rates[index]),
            height=sizes[index][0],
            width=sizes[index][1],
            size=rng.uniform(*config.shape_size),
            offset=(rng.uniform(-_MAX_OFFSET, _MAX_OFFSET), rng.uniform(-_MAX_OFFSET, _MAX_OFFSET)),
        )
        for index, scene in enumerate(scenes(config.clips, config.seed))
    ]


def _spread(values: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """Repeat `values` to `count` items and shuffle them; their counts differ by at most one."""
    repeated = [values[index % len(values)] for index in range(count)]
    rng.shuffle(repeated)
    return repeated


def fingerprint(config: SampleClipsConfig) -> str:
    """Return the hex SHA-256 of everything that determines the frames of the set."""
    return digest({"shots": [asdict(shot) for shot in plan_shots(config)], "renderer": _RENDERER})


def is_complete(folder: Path, config: SampleClipsConfig) -> bool:
    """Return whether `folder` already holds exactly the set that `config` describes.

    Raises:
        MobiusError: If it holds other files, which rendering would replace.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    if not (folder / FINGERPRINT_FILE).is_file():
        raise MobiusError(
            f"{folder} holds files that are not sample clips, and rendering would replace them. Set your "
            "own folder with `clips` in conf/base/globals.yml, or move these files."
        )
    try:
        record = read_document(
            folder / FINGERPRINT_FILE, dict[str, Any], "The sample clips are rendered again."
        )
    except MobiusError as error:
        log.warning("%s", error)
        return False
    files = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return record.get("fingerprint") == fingerprint(config) and files == _expected_files(config)


def _expected_files(config: SampleClipsConfig) -> set[str]:
    return {FINGERPRINT_FILE, "captions.csv", *(shot.file for shot in plan_shots(config))}


def write_set(folder: Path, config: SampleClipsConfig) -> None:
    """Render the set into the empty `folder`: clips, `captions.csv` and the fingerprint."""
    shots = plan_shots(config)
    # Spawned, not forked: the caller may have threads (Kedro, a progress display).
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        done = pool.map(_write_shot, [folder] * len(shots), shots, chunksize=8)
        for _ in track(done, "rendering sample clips", len(shots), "clips"):
            pass
    _write_captions(folder / "captions.csv", shots)
    write_json(folder / FINGERPRINT_FILE, {"fingerprint": fingerprint(config), "clips": len(shots)})
    log.info("%d sample clips rendered", len(shots))


def _write_shot(folder: Path, shot: Shot) -> None:
    frames = render(
        shot.scene,
        times=[index / shot.fps for index in range(shot.frames)],
        height=shot.height,
        width=shot.width,
        size=shot.size,
        offset=shot.offset,
    )
    path = folder / shot.file
    _WRITERS[path.suffix[1:]](path, frames, shot.fps)


def _write_captions(path: Path, shots: Sequence[Shot]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "caption", "shape", "colour", "motion", "background"])
        for shot in shots:
            scene = shot.scene
            words = (scene.shape, scene.colour, scene.motion, scene.background)
            writer.writerow([shot.file, caption(scene), *words])
