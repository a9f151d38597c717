"""Seconds and memory of ingesting 1,000, 10,000 and 100,000 small clips, as ratios.

Each size runs in a separate process on distinct files; a second run on the same folder knows all of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.table import tabulate
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.validation.near_duplicates import first_alike

CLIP = ClipFormat(frames=4, height=16, width=16, fps=8)
INGEST = IngestConfig(heldout_share=0.1, files_per_batch=64)
_HASH_BYTES = 24


def write_clips(folder: Path, count: int) -> None:
    """Write copies of a clip of 16 px and 8 frames, made distinct by bytes after the GIF's end."""
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    write_gif(folder / "clip.gif", np.stack([np.roll(picture, step, axis=1) for step in range(8)]), 8)
    data = (folder / "clip.gif").read_bytes()
    (folder / "clip.gif").unlink()
    for index in range(count):
        below = folder / f"{index // 1000:03d}"
        below.mkdir(exist_ok=True)
        (below / f"{index:06d}.gif").write_bytes(data + index.to_bytes(4, "big"))
    with (folder / "listing.jsonl").open("w") as listing:
        for index in range(count):
            row = {"file": f"{index // 1000:03d}/{index:06d}.gif", "caption": f"clip {index}"}
            listing.write(json.dumps(row) + "\n")


def ingest(folder: Path, work: Path) -> dict[str, float]:
    """Return seconds and peak resident MiB of this process, and of the largest reader process."""
    begun = time.perf_counter()
    table = tabulate(folder, INGEST, CLIP, work)
    seconds = time.perf_counter() - begun
    own, readers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    mib = {"mib": own.ru_maxrss / 1024, "reader_mib": readers.ru_maxrss / 1024}
    statuses = pq.read_table(table, columns=["status"])["status"].unique().to_pylist()  # after the peak
    assert statuses == ["ok"]
    return {"seconds": seconds, **mib}


def apart(folder: Path, work: Path) -> dict[str, float]:
    """Run `ingest` in a separate process."""
    command = [sys.executable, __file__, "--folder", str(folder), "--work", str(work)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_hashes(sizes: list[int]) -> None:
    """Time the search for near-duplicates among random hashes, of which none are similar."""
    source = np.random.default_rng(0)
    hashes = [source.bytes(_HASH_BYTES).hex() for _ in range(max(sizes))]
    seconds = {}
    for size in sizes:
        begun = time.perf_counter()
        assert first_alike(hashes[:size], 12) == list(range(size))
        seconds[size] = (time.perf_counter() - begun) / size
    for size in sizes:
        ratio = seconds[size] / seconds[sizes[0]]
        each = f"{1e6 * seconds[size]:.1f} us each, {ratio:.2f} times the first"
        print(f"near-duplicates among {size:>7,}: {each}")


def main() -> None:
    """Print the table, or the result of one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    if asked.folder:
        print("\n" + json.dumps(ingest(asked.folder, asked.work)))
        return
    compare_hashes(asked.sizes)
    first: dict[str, float] = {}
    for size in asked.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "clips")
            folder.mkdir()
            write_clips(folder, size)
            for run in ("new", "known"):
                found = apart(folder, Path(name, "work"))
                each = found["seconds"] / size
                base = first.setdefault(run, each)
                print(
                    f"{size:>7,} {run:>5} clips: {found['seconds']:7.1f} s, {1e3 * each:5.2f} ms each "
                    f"({each / base:.2f} times the first), peak {found['mib']:.0f} MiB, "
                    f"of a reader {found['reader_mib']:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
