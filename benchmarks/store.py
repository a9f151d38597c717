"""Time of reading batches from the latents store, against a raw memory map and against one file per clip.

Three readers return the same batch: float32 tensors of mean, log-variance and text embedding of the same
random clips. `store` is `LatentsStore`, as training uses it; `memmap` is a `numpy.memmap` of the same bytes
at the same offsets; `files` is one `torch.save` file per clip, in fp16 as well, read by `torch.load`. They
take turns in every round. "warm": all bytes are in the page cache. "cold": nothing was read since the kernel
was asked to drop the files' pages (posix_fadvise); caches of the disk or host may still hold them, and the
time includes opening the store's maps. The store checks the hash of each shard once per process; this comes
first and is timed separately. The time to choose a step's clips is measured for 1,000 and 100,000 clips.
`make bench` runs this.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mobius_pipeline.latents.index import CLIPS, TEXTS, Places, placed, write_index
from mobius_pipeline.latents.shards import is_intact, mapped, write_shard
from mobius_pipeline.latents.store import CURRENT, Clip, LatentsStore
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.files import write_json
from mobius_pipeline.training.draws import Batches

CLIPS_PER_SHARD, BATCH = 32, 4
# Latents (F, C, h, w) and text (L, D): of the default base, and of 16 frames of 256 x 256 px under SD 2.
SHAPES = {"default": ((8, 8, 8, 8), (16, 384)), "256 px": ((16, 4, 32, 32), (77, 1024))}
Read = Callable[[Clip], list[Tensor]]


def write_store(root: Path, clips: int, latents: Sequence[int], text: Sequence[int]) -> LatentsStore:
    """Write a store of random clips, each with its own caption."""
    folder = root / f"{0:020x}"
    folder.mkdir(parents=True)
    names = [f"{i:064x}" for i in range(clips)]
    places: dict[str, Places] = {CLIPS: {}, TEXTS: {}}
    for first in range(0, clips, CLIPS_PER_SHARD):
        held = names[first : first + CLIPS_PER_SHARD]
        moments = {name: torch.randn(len(held), *latents).half() for name in ("mean", "logvar")}
        embedding = {"embedding": torch.randn(len(held), *text).half()}
        places[CLIPS] |= placed(write_shard(folder, CLIPS, held, moments), held)
        places[TEXTS] |= placed(write_shard(folder, TEXTS, held, embedding), held)
    places[TEXTS][""] = places[TEXTS][names[0]]
    columns = {"clip_id": names, "path": names, "split": "train", "captions": [[name] for name in names]}
    write_index(folder, pd.DataFrame({**columns, "frames": 8, "height": 64, "width": 64}), **_by_kind(places))
    form = ClipFormat(frames=8, height=64, width=64, fps=8).model_dump()
    write_json(root / CURRENT, {"folder": folder.name, "fingerprint": "benchmark", "clip": form})
    return LatentsStore(root)


def _by_kind(places: dict[str, Places]) -> dict[str, Places]:
    return {"clips": places[CLIPS], "texts": places[TEXTS]}


def from_store(store: LatentsStore) -> Read:
    return lambda clip: [*store.moments(clip), store.text(clip)]


def from_memmap(store: LatentsStore) -> Read:
    """Reads by `numpy.memmap` of the shards' bytes; every map is already open."""
    maps = {path.name: memory_maps(path) for path in store.folder.glob("*.safetensors")}

    def read(clip: Clip) -> list[Tensor]:
        shard, text = maps[clip.shard], maps[clip.text_shards[0]]
        rows = shard["mean"][clip.row], shard["logvar"][clip.row], text["embedding"][clip.text_rows[0]]
        return [torch.from_numpy(np.array(row)).float() for row in rows]

    return read


def memory_maps(path: Path) -> dict[str, "np.memmap[Any, Any]"]:
    """Return a shard's tensors, located by its header: https://huggingface.co/docs/safetensors#format."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__")
    return {
        name: np.memmap(path, np.float16, "r", 8 + length + one["data_offsets"][0], tuple(one["shape"]))
        for name, one in header.items()
    }


def write_files(folder: Path, store: LatentsStore) -> None:
    folder.mkdir()
    for clip in store.clips("train"):
        shard, text = (mapped(store.folder / name) for name in (clip.shard, clip.text_shards[0]))
        rows = shard["mean"][clip.row], shard["logvar"][clip.row], text["embedding"][clip.text_rows[0]]
        torch.save([row.clone() for row in rows], folder / clip.clip_id)


def from_files(folder: Path) -> Read:
    return lambda clip: [tensor.float() for tensor in torch.load(folder / clip.clip_id, weights_only=True)]


def drop_pages(root: Path) -> None:
    """Ask the kernel to drop the cached pages of every file below `root`; mapped ones may stay."""
    for path in root.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)  # pages that are not written yet cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


@dataclass(frozen=True)
class Readers:
    """The readers, and the files that they read."""

    root: Path
    opened: dict[str, Callable[[], Read]]

    def seconds(self, batches: Sequence[Sequence[Clip]], cold: bool) -> dict[str, float]:
        """Return the seconds of each reader for all batches."""
        return {name: self._of(open_reader, batches, cold) for name, open_reader in self.opened.items()}

    def _of(self, open_reader: Callable[[], Read], batches: Sequence[Sequence[Clip]], cold: bool) -> float:
        read = open_reader()
        if cold:
            drop_pages(self.root)  # no page is mapped: readers are new, earlier maps are closed
        else:
            take(read, batches)
        began = perf_counter()
        take(read, batches)
        return perf_counter() - began


def take(read: Read, batches: Sequence[Sequence[Clip]]) -> None:
    """Read batches, stacked as training does."""
    for batch in batches:
        for _ in map(torch.stack, zip(*map(read, batch), strict=True)):
            pass


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}


def measured(root: Path, clips: int, rounds: int, shape: str) -> dict[str, Any]:
    """Return the ratios of the store's seconds to the others', warm and cold, and the cost of its check."""
    store = write_store(root, clips, *SHAPES[shape])
    names = sorted(store.folder.glob("*.safetensors"))
    began = perf_counter()
    if not all(is_intact(path) for path in names):
        raise RuntimeError("a shard was not written as it should be")
    checking = sum(path.stat().st_size for path in names) / 2**20 / (perf_counter() - began)
    write_files(root / "files", store)
    readers = Readers(
        root,
        {
            "store": lambda: from_store(LatentsStore(root)),
            "memmap": lambda: from_memmap(store),
            "files": lambda: from_files(root / "files"),
        },
    )
    order = np.random.default_rng(0)
    result: dict[str, Any] = {"check_mib_per_s": checking, "clips": clips}
    for state in ("warm", "cold"):
        turns = []
        for _ in range(rounds):
            shuffled = [store.clips("train")[i] for i in order.permutation(clips)]
            batches = [shuffled[first : first + BATCH] for first in range(0, clips - BATCH + 1, BATCH)]
            turns.append(readers.seconds(batches, cold=state == "cold"))
        result[state] = {
            "clip_us": {name: 1e6 * statistics.median(t[name] for t in turns) / clips for name in turns[0]},
            "store_over_memmap": spread([turn["store"] / turn["memmap"] for turn in turns]),
            "store_over_files": spread([turn["store"] / turn["files"] for turn in turns]),
        }
    return result


def choosing(clips: int, steps: int = 1000) -> dict[str, float]:
    """Time the choice of a step's clips: the median in us, and ms for the first step of an epoch."""
    order = Batches([range(clips)], BATCH, seed=0)
    seconds = []
    for step in range(steps):
        began = perf_counter()
        order.at(step)
        seconds.append(perf_counter() - began)
    return {"step_us": 1e6 * statistics.median(seconds), "epoch_ms": 1e3 * seconds[0]}


def described(shape: str, state: str, row: dict[str, Any]) -> str:
    us, memmap, files = row["clip_us"], row["store_over_memmap"], row["store_over_files"]
    return (
        f"{shape}, {state}: {us['store']:.0f} us a clip; over a memory map {memmap['median']:.2f} "
        f"({memmap['lower']:.2f} to {memmap['upper']:.2f}), over a file a clip {files['median']:.3f} "
        f"({files['lower']:.3f} to {files['upper']:.3f})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the result and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns per reader, warm and cold")
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/store.json"))
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # as in a loader
    results = {}
    for shape in SHAPES:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be in memory
            results[shape] = measured(Path(folder), options.clips, options.rounds, shape)
        print(f"{shape}: hashes checked at {results[shape]['check_mib_per_s']:.0f} MiB/s")
        for state in ("warm", "cold"):
            print(described(shape, state, results[shape][state]))
    chosen = {clips: choosing(clips) for clips in (1_000, 100_000)}
    few, many = chosen.values()
    print(
        f"choosing a step's clips: 100,000 over 1,000 clips {many['step_us'] / few['step_us']:.2f} "
        f"({many['step_us']:.1f} us), and {many['epoch_ms']:.0f} ms per epoch"
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": platform.machine(), "torch": torch.__version__}
    options.output.write_text(
        json.dumps({"machine": machine, "shapes": results, "choosing": chosen}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
