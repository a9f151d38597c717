"""Which side of the split a source falls on: a function of its name alone."""

import hashlib


def place_of(name: str) -> float:
    """Place of a group, or of a source by the hash of its bytes, in the order of the split: 0 to 1."""
    return int(hashlib.sha256(f"split:{name}".encode()).hexdigest()[:8], 16) / 16**8


def split_of(name: str, heldout_share: float) -> str:
    """The split of a group or a source: it stays when other clips come and go."""
    return "heldout" if place_of(name) < heldout_share else "train"
