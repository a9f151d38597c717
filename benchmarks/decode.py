"""What reading clips with all measures costs beside PyAV's plain decode of the same files, within one run.

The two take turns on every file, so a machine that speeds up or slows down does so for both. Plain is what
PyAV's own documentation shows: `for frame in container.decode(video=0)`, with its threads as they are by
default, and with them off. The ratio is plain's seconds over ours, of all files of a round: 1 is as fast.
`make bench` runs this.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np

from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.describe import describe
from mobius_pipeline.clips.media.clip import load_clip
from mobius_pipeline.clips.media.write import write_gif, write_mp4, write_webm
from mobius_pipeline.config import ClipFormat

HEIGHT, WIDTH, FRAMES, FPS = 360, 640, 96, 24
CLIP = ClipFormat(frames=32, height=256, width=256, fps=8)
INGEST = IngestConfig(heldout_share=0.1, files_per_batch=8)


def film() -> np.ndarray:
    """Soft blobs that drift over noise: uint8 (frames, height, width, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8)
    still = coarse.repeat(20, axis=0).repeat(20, axis=1)
    return np.stack(
        [
            np.roll(still, 3 * step, axis=1) // 2 + rng.integers(0, 32, still.shape, dtype=np.uint8)
            for step in range(FRAMES)
        ]
    )


def plain(path: Path, threads: str) -> None:
    """Decode every frame and do nothing with it."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = threads
        for _ in container.decode(video=0):
            pass


def plain_rgb(path: Path) -> None:
    """Decode, and make the frames that `load_clip` takes RGB."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for index, frame in enumerate(container.decode(video=0)):
            if index % (FPS // CLIP.fps) == 0:
                frame.to_ndarray(format="rgb24")


WAYS: dict[str, Callable[[Path], Any]] = {
    "plain": lambda path: plain(path, "SLICE"),  # PyAV's default
    "plain, all threads": lambda path: plain(path, "AUTO"),
    "plain, one thread": lambda path: plain(path, "NONE"),
    "plain to RGB": plain_rgb,
    "describe": lambda path: describe(path.parent, path.name, INGEST, CLIP),
    "load_clip": lambda path: load_clip(path, CLIP),
}
RATIOS = {
    "describe": ("plain", "plain, all threads", "plain, one thread"),
    "load_clip": ("plain to RGB",),
}


def seconds(way: Callable[[Path], Any], paths: list[Path]) -> float:
    """Seconds that a way takes for all files, one after the other."""
    began = perf_counter()
    for path in paths:
        way(path)
    return perf_counter() - began


def measured(paths: list[Path], rounds: int) -> dict[str, dict[str, float]]:
    """Quartiles over the rounds of each ratio of throughputs."""
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds + 1):
        for name, way in WAYS.items():
            took[name].append(seconds(way, paths))
    found = {}
    for ours, references in RATIOS.items():
        for reference in references:
            # The first round warms up.
            ratios = [theirs / own for theirs, own in zip(took[reference][1:], took[ours][1:], strict=True)]
            lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
            found[f"{ours} / {reference}"] = {"median": median, "lower": lower, "upper": upper}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the ratios, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/decode.json"))
    options = parser.parse_args(arguments)
    frames, result = film(), {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, write in {"mp4": write_mp4, "webm": write_webm, "gif": write_gif}.items():
            path = Path(folder) / f"clip.{suffix}"
            write(path, frames, FPS)
            result[suffix] = measured([path], options.rounds)
            for name, ratio in result[suffix].items():
                print(
                    f"{suffix}: throughput of {name}: {ratio['median']:.2f} "
                    f"({ratio['lower']:.2f} to {ratio['upper']:.2f})"
                )
    setting = {"rounds": options.rounds, "cores": os.cpu_count(), "frames": FRAMES, "size": [HEIGHT, WIDTH]}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**setting, "ratios": result}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
