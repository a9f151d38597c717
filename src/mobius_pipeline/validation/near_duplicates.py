"""Find clips that look nearly the same, by perceptual hashes of some of their frames.

Two hashes that differ in at most `bits` bits are equal in at least one of `bits + 1` parts. So only clips
that share a part are compared, which takes about linear time if few clips are alike.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise


def first_alike(hashes: Sequence[str], bits: int) -> list[int]:
    """Return for each hash (hex, of equal length) the index of the first kept hash within `bits` bits of it.

    A hash without such a predecessor is kept and gets its own index. An empty hash is not like any other.
    """
    numbers = [int(one, 16) if one else None for one in hashes]
    width = 4 * max(map(len, hashes), default=0)
    kept: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    first = []
    for place, number in enumerate(numbers):
        parts = list(enumerate(_parts(number, width, bits + 1))) if number is not None else []
        candidates = sorted({other for part in parts for other in kept[part]})
        alike = next((other for other in candidates if _distance(number, numbers[other]) <= bits), place)
        first.append(alike)
        if alike == place:
            for part in parts:
                kept[part].append(place)
    return first


def _parts(number: int, width: int, count: int) -> list[int]:
    """Split `number`, of `width` bits, into `count` parts whose lengths differ by at most one bit."""
    edges = [index * width // count for index in range(count + 1)]
    return [(number >> low) & ((1 << (high - low)) - 1) for low, high in pairwise(edges)]


def _distance(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return (one ^ other).bit_count()
