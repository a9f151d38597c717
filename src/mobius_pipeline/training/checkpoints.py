"""Resume state on the disk: whole or absent, hashed, never pickled.

<folder>/step-00000100/
state.safetensors     weights, EMA, optimiser state
state.json            step, history, what the meters read
manifest.json         each file's SHA-256, written last
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import read_json, sha256, sync, whole_folder, write_json

log = logging.getLogger(__name__)

STATE, META, MANIFEST = "state.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after `step` optimiser steps."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep_last: int, keep_every: int | None = None
) -> Path:
    """Write a checkpoint beside its place, rename it, then delete old ones.

    Args:
        folder: Where a training's checkpoints lie.
        checkpoint: What to save.
        keep_last: How many of the newest to keep.
        keep_every: Keep every one whose step is a multiple of this, too.

    Raises:
        MobiusError: If it cannot be written; those before it stand.
    """
    target = folder / f"step-{checkpoint.step:08d}"
    try:
        with whole_folder(target) as partial:
            save_file(checkpoint.tensors, partial / STATE)
            write_json(partial / META, {"step": checkpoint.step, **checkpoint.meta})
            write_json(partial / MANIFEST, {name: sha256(partial / name) for name in (STATE, META)})
        sync(folder)
    except (OSError, SafetensorError) as error:
        raise MobiusError(
            f"Cannot write the checkpoint {target} ({error}). Those before it stand: make room, or the "
            "folder writable, and the same command goes on from the newest."
        ) from error
    for old in _steps(folder)[keep_last:]:
        if keep_every is None or step_of(old) % keep_every:
            shutil.rmtree(old)
    return target


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest whole checkpoint."""
    path = newest_whole(folder)
    if path is None:
        return None
    meta = read_json(path / META)
    return Checkpoint(step=meta.pop("step"), tensors=load_file(path / STATE), meta=meta)


def saved_history(folder: Path) -> dict[str, Any]:
    """The history in the newest whole checkpoint, by the names of `History`; empty without one."""
    path = newest_whole(folder)
    history: dict[str, Any] = read_json(path / META)["history"] if path else {}
    return history


def newest_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint's folder; a damaged one is named and passed over, not deleted."""
    for path in _steps(folder):
        if reason := damage(path):
            log.warning("Checkpoint %s is damaged (%s) and passed over.", path, reason)
            continue
        return path
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        hashes = read_json(path / MANIFEST)
    except (OSError, ValueError) as error:
        return f"its {MANIFEST} cannot be read: {error}"
    for name, expected in hashes.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if sha256(path / name) != expected:
            return f"{name} has changed"
    return None


def _steps(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted(folder.glob("step-*"), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step that a checkpoint's folder is named by."""
    return int(path.name.removeprefix("step-"))
