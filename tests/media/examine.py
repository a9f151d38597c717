"""Read every clip in a folder as a worker would, with little memory and time, and report each result.

    python examine.py FOLDER [REFERENCES]

Prints JSON: of each file the reason of its MediaError, or its number of frames and how far the worst of them
is from the one in the file of the same suffix in REFERENCES (mean absolute difference of 0 to 255). Anything
but a MediaError ends it with a traceback.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mobius_pipeline.media.decode import Limits, MediaError, open_media

LIMITS = Limits(pixels=4_000_000, frames=2000, seconds=600)
SECONDS = 20  # CPU time
MEMORY = 3 << 30  # of address space: the libraries need more than one


def frames_of(path: Path, keep: bool) -> tuple[int, np.ndarray | None]:
    """Count the frames, converting each to RGB; also return them if they are to be kept."""
    count, kept = 0, []
    with open_media(path, limits=LIMITS) as media:
        for frame in media.frames:
            pixels = frame.rgb()
            count += 1
            if keep:
                kept.append(pixels)
    return count, np.stack(kept).astype(np.int16) if kept else None


def examined(path: Path, references: dict[str, np.ndarray]) -> dict[str, Any]:
    reference = references.get(path.suffix)
    try:
        count, frames = frames_of(path, keep=reference is not None)
    except MediaError as error:
        return {"reason": str(error)}
    if frames is None or reference is None or frames.shape != reference.shape:
        return {"frames": count, "off": None}
    return {"frames": count, "off": float(np.abs(frames - reference).mean(axis=(1, 2, 3)).max())}


def peak_mib() -> float:
    """Return the peak resident memory; `ru_maxrss` would include that of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def main(folder: Path, references: Path | None = None) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    known = {}
    for path in references.iterdir() if references else ():
        if (frames := frames_of(path, keep=True)[1]) is not None:
            known[path.suffix] = frames
    before = peak_mib()
    results = {path.name: examined(path, known) for path in sorted(folder.iterdir())}
    print(json.dumps({"results": results, "grown_mib": peak_mib() - before}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
