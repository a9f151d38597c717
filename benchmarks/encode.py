"""Clips per second that several processes encode, as a ratio to one process with one or several threads.

All of them encode the same clips: MP4 files of 640 x 360 px, decoded each time to 8 frames of 128 x 128 px,
with a VAE of Stable Diffusion's layout and a quarter of its channels (see `--channels` and `--size`). They
take turns within a round, and each round starts with another one. Only the steady state counts: from when
every process has finished two clips to when the last clips are handed out. The time to the first clip
(imports, the model, the first decode) is printed separately, as is the machine's load before each round,
because other work on the cores lowers the ratio. `make bench` runs this.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from diffusers import AutoencoderKL

from decode import FPS, film
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.encoder import Setting, Wanted
from mobius_pipeline.latents.local import encode_locally
from mobius_pipeline.latents.placement import cores
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.runtime.files import sha256

FRAMES = 8
SETTLED = 2  # clips that each process finishes before counting starts


def write_base(folder: Path, channels: Sequence[int]) -> None:
    """Write a VAE with random weights, which cost the same as trained ones."""
    torch.manual_seed(0)
    levels = len(channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(channels),
        layers_per_block=2,
        latent_channels=4,
    )
    vae.save_pretrained(folder / "vae")


def write_clips(folder: Path, count: int, size: int) -> list[Wanted]:
    """Write copies of a film, each as a separate clip."""
    folder.mkdir()
    first = folder / "0.mp4"
    write_mp4(first, film(), FPS)
    digest, names = sha256(first), [f"{number}.mp4" for number in range(count)]
    for name in names[1:]:
        shutil.copy(first, folder / name)
    return [Wanted(name, name, digest, FRAMES, size, size) for name in names]


def turn(wanted: Sequence[Wanted], setting: Setting) -> tuple[float, float]:
    """Return clips per second in the steady state, and seconds to the first clip."""
    began, times, done_by = perf_counter(), [], []
    for encoded in encode_locally(wanted, setting):
        if encoded.error:
            raise RuntimeError(encoded.error)
        times.append(perf_counter())
        done_by.append(encoded.where)
    first = settled(done_by, int(setting.config.processes))
    last = len(times) - 2 * int(setting.config.processes)  # after it a process may wait for the others
    if last - first < len(times) // 3:
        raise RuntimeError("most clips were done before every process had started: raise --clips")
    return (last - first) / (times[last] - times[first]), times[0] - began


def settled(done_by: Sequence[str], processes: int) -> int:
    """Return the index of the first clip at which every process has finished `SETTLED` clips."""
    counts = Counter[str]()
    for place, who in enumerate(done_by):
        counts[who] += 1
        if len(counts) == processes and min(counts.values()) >= SETTLED:
            return place
    return len(done_by)


def measured(
    wanted: Sequence[Wanted], setting: Setting, ways: dict[str, tuple[int, int]], rounds: int
) -> Any:
    """Return clips per second and start of each way in every round."""
    rows = []
    for number in range(rounds):
        load = os.getloadavg()[0]
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        row: dict[str, Any] = {"load": load}
        for name in order:
            processes, threads = ways[name]
            config = setting.config.model_copy(update={"processes": processes, "threads": threads})
            row[name] = turn(wanted, Setting(setting.raw_clips, setting.base, setting.clip, config))
        shown = ", ".join(f"{name} {row[name][0]:.2f}" for name in ways)
        print(f"round {number + 1}, load {load:.1f}: clips/s: {shown}", flush=True)
        rows.append(row)
    return rows


def summary(rows: Sequence[dict[str, Any]], several: str, one: str) -> dict[str, float]:
    """Return the median and range of the ratios of clips per second within a round."""
    ratios = [row[several][0] / row[one][0] for row in rows]
    return {"median": statistics.median(ratios), "from": min(ratios), "to": max(ratios)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the ratios and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128, 128])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/encode.json"))
    options = parser.parse_args(arguments)

    count = options.processes
    ways = {"1 process, 1 thread": (1, 1), f"1 process, {count} threads": (1, count)}
    several = f"{count} processes, 1 thread each"
    config = EncodeConfig(
        clips_per_shard=32, frames_per_batch=FRAMES, device="cpu", gpus=0, retries=0, remove_orphans=False
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_base(folder / "base", options.channels)
        wanted = write_clips(folder / "clips", options.clips, options.size)
        clip = ClipFormat(frames=FRAMES, height=options.size, width=options.size, fps=8)
        setting = Setting(folder / "clips", folder / "base", clip, config)
        rows = measured(wanted, setting, {**ways, several: (count, 1)}, options.rounds)
    ratios = {one: summary(rows, several, one) for one in ways}
    for one, ratio in ratios.items():
        said = f"{ratio['median']:.2f} ({ratio['from']:.2f} to {ratio['to']:.2f})"
        print(f"{several} over {one}: {said} of its clips/s")
    starts = {way: statistics.median(row[way][1] for row in rows) for way in (*ways, several)}
    print("to the first clip: " + ", ".join(f"{way} {seconds:.1f} s" for way, seconds in starts.items()))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    setting_of = {**vars(options), "output": None, "cores": cores(), "torch": torch.__version__}
    options.output.write_text(
        json.dumps({**setting_of, "ratios": ratios, "rounds_of": rows}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
