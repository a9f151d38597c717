"""Assign sources to train or held-out by hash, independently of other sources."""

import hashlib
from typing import Final, Literal, get_args

Split = Literal["train", "heldout"]
TRAIN: Final = "train"
HELDOUT: Final = "heldout"
SPLITS: tuple[Split, ...] = get_args(Split)


def split_fraction(name: str) -> float:
    """Hash the name of a group, or the SHA-256 of a source, to its place in the split's order, 0 to 1."""
    return int(hashlib.sha256(f"split:{name}".encode()).hexdigest()[:8], 16) / 16**8


def split_of(name: str, heldout_share: float) -> Split:
    """Return the split of a group or a source; it does not change when other clips are added or removed."""
    return HELDOUT if split_fraction(name) < heldout_share else TRAIN
