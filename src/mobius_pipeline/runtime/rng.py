"""Random number generators that depend only on a key, never on global state."""

import hashlib

import torch


def generator(*key: object) -> torch.Generator:
    """Return a CPU generator seeded by a hash of `key`."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big", signed=True)
    return torch.Generator().manual_seed(seed)
