"""Throughput of reading clips with all measures, as a ratio to PyAV's plain decode of the same files.

The two take turns on every file, so that changes of the machine's speed affect both. Plain is the loop of
PyAV's documentation, `for frame in container.decode(video=0)`, with default threads, with all threads that
the codec can use, and with one. The ratio is plain's seconds over ours, of all files of a round: 1 is as
fast. `make bench` runs this.

Two things are timed: one file at a time in this process, and the ingest of a folder against PyAV with all
threads on one file after the other. The start of the ingest's readers (one per core) is included.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np
import pandas as pd

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.describe import describe
from mobius_pipeline.ingest.table import tabulate
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm

HEIGHT, WIDTH, FRAMES, FPS = 360, 640, 96, 24
CLIP = ClipFormat(frames=32, height=256, width=256, fps=8)
INGEST = IngestConfig(heldout_share=0.1, files_per_batch=8)


def film() -> np.ndarray:
    """Return soft blobs that drift over noise: uint8 (frames, height, width, 3)."""
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
    """Decode, and convert the frames that `load_clip` uses to RGB."""
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
Quartiles = dict[str, float]
RATIOS = {
    "describe": ("plain", "plain, all threads", "plain, one thread"),
    "load_clip": ("plain to RGB",),
}


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds that `work` takes."""
    began = perf_counter()
    work()
    return perf_counter() - began


def quartiles(theirs: list[float], ours: list[float]) -> Quartiles:
    """Return the quartiles of the ratios of each round; the first round is warm-up."""
    ratios = [one / other for one, other in zip(theirs[1:], ours[1:], strict=True)]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}


def one_file(path: Path, rounds: int) -> dict[str, Quartiles]:
    """Return ratios of throughputs, one file at a time."""
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds + 1):
        for name, way in WAYS.items():
            took[name].append(seconds(partial(way, path)))
    return {
        f"{ours} / {reference}": quartiles(took[reference], took[ours])
        for ours, references in RATIOS.items()
        for reference in references
    }


def folder_of_files(path: Path, count: int, rounds: int) -> dict[str, Quartiles]:
    """Return the ratio of throughputs for a folder of `count` copies: ingest to PyAV with all threads."""
    clips = path.with_name(f"{path.suffix[1:]}s")
    clips.mkdir()
    paths = [clips / f"{index}{path.suffix}" for index in range(count)]
    for copy in paths:
        shutil.copy(path, copy)

    def decoded() -> None:
        for copy in paths:
            plain(copy, "AUTO")

    def ingested() -> None:
        with tempfile.TemporaryDirectory() as work:  # empty: nothing is known of the files
            table = tabulate(clips, INGEST, CLIP, Path(work))
            rows = pd.read_parquet(table, columns=["status"])
        assert (rows["status"] == "ok").all()

    theirs, ours = zip(*((seconds(decoded), seconds(ingested)) for _ in range(rounds + 1)), strict=True)
    return {f"ingest of {count} files / plain, all threads": quartiles(list(theirs), list(ours))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the ratios and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=int, default=64, help="files of the folder that is ingested")
    parser.add_argument("--folder-rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/decode.json"))
    options = parser.parse_args(arguments)
    frames, result = film(), {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, write in {"mp4": write_mp4, "webm": write_webm, "gif": write_gif}.items():
            path = Path(folder) / f"clip.{suffix}"
            write(path, frames, FPS)
            result[suffix] = one_file(path, options.rounds)
            result[suffix] |= folder_of_files(path, options.files, options.folder_rounds)
            for name, ratio in result[suffix].items():
                print(
                    f"{suffix}: throughput of {name}: {ratio['median']:.2f} "
                    f"({ratio['lower']:.2f} to {ratio['upper']:.2f})"
                )
    setting = {**vars(options), "cores": os.cpu_count(), "frames": FRAMES, "size": [HEIGHT, WIDTH]}
    del setting["output"]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**setting, "ratios": result}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
