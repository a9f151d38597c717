"""Read damaged copies of clips as a worker would, with little memory and time.

    python fuzz.py WHOLES DAMAGED

DAMAGED holds a folder for each file of WHOLES, by its name. Prints JSON: by that name which of its copies
were "refused", gave "exact" frames and times, or "changed" ones. Anything but a MediaError ends it with a
traceback.
"""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mobius_pipeline.media.decode import Limits, MediaError, open_media

LIMITS = Limits(pixels=4_000_000, frames=2000, seconds=600)
SECONDS = 120  # CPU time
MEMORY = 3 << 30  # of address space: the libraries need more than one
Damage = Callable[[bytearray, np.random.Generator], bytes | bytearray]


def damaged(whole: bytes, seed: int) -> bytes:
    """Return `whole` with one kind of damage in one place, chosen by the seed."""
    draw = np.random.default_rng(seed)
    data = bytearray(whole)
    while data == whole:
        data = bytearray(DAMAGES[draw.integers(len(DAMAGES))](data, draw))
    return bytes(data)


def _span(data: bytes | bytearray, draw: np.random.Generator) -> slice:
    start = int(draw.integers(len(data)))
    return slice(start, start + int(draw.integers(1, 64)))


def flipped(data: bytearray, draw: np.random.Generator) -> bytearray:
    data[draw.integers(len(data))] ^= 1 << int(draw.integers(8))
    return data


def replaced(data: bytearray, draw: np.random.Generator) -> bytearray:
    data[draw.integers(len(data))] = int(draw.integers(256))
    return data


def zeroed(data: bytearray, draw: np.random.Generator) -> bytearray:
    span = _span(data, draw)
    data[span] = bytes(len(data[span]))
    return data


def scrambled(data: bytearray, draw: np.random.Generator) -> bytearray:
    span = _span(data, draw)
    data[span] = draw.bytes(len(data[span]))
    return data


def lost(data: bytearray, draw: np.random.Generator) -> bytearray:
    del data[_span(data, draw)]
    return data or bytearray(1)


def inserted(data: bytearray, draw: np.random.Generator) -> bytearray:
    at = int(draw.integers(len(data)))
    data[at:at] = draw.bytes(int(draw.integers(1, 64)))
    return data


def repeated(data: bytearray, draw: np.random.Generator) -> bytearray:
    span = _span(data, draw)
    data[span.start : span.start] = data[span]
    return data


def cut(data: bytearray, draw: np.random.Generator) -> bytearray:
    return data[: int(draw.integers(1, len(data) + 1))]


DAMAGES: tuple[Damage, ...] = (flipped, replaced, zeroed, scrambled, lost, inserted, repeated, cut)


def shown(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and duration of each frame in s (N, 2), and the pixels (N, H, W, 3)."""
    with open_media(path, limits=LIMITS) as media:
        frames = [(frame.start, frame.duration, frame.rgb()) for frame in media.frames]
    return np.array([frame[:2] for frame in frames]), np.stack([pixels for *_, pixels in frames])


def end_of(path: Path, whole: tuple[np.ndarray, np.ndarray]) -> str:
    try:
        times, pixels = shown(path)
    except MediaError:
        return "refused"
    same = times.shape == whole[0].shape and np.allclose(times, whole[0], atol=1e-6)
    return "exact" if same and np.array_equal(pixels, whole[1]) else "changed"


def main(wholes: Path, damaged_copies: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    ends: dict[str, dict[str, list[str]]] = {}
    for whole in sorted(wholes.iterdir()):
        reference = shown(whole)
        mine = ends.setdefault(whole.name, {"refused": [], "exact": [], "changed": []})
        for copy in sorted((damaged_copies / whole.name).iterdir()):
            mine[end_of(copy, reference)].append(copy.name)
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
