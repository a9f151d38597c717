"""Shards: immutable safetensors files that are named by their bytes' hash, and that say what they hold.

A shard's header lists the names of its rows (clip ids, or captions), so a finished shard counts from the
moment that it has its name, whether or not an index was written afterwards.
"""

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import sha256, sync, whole_file

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
HASH_DIGITS = 20
REMEDY = "Run `kedro run --pipelines=encode`: it encodes only what the store has lost."
_ROWS = "rows"  # the only key of the header's metadata: the library writes several in a random order
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_whole: set[tuple[str, int, int, int]] = set()  # files whose hash agreed in this process


def write_shard(folder: Path, kind: str, names: Sequence[str], tensors: "dict[str, Tensor]") -> str:
    """Write a shard and return its file name.

    Args:
        folder: Where to.
        kind: What its name begins with.
        names: Of its rows.
        tensors: (n, …) each, n being the number of names.

    Raises:
        MobiusError: If the disk is full; nothing is left of the shard then.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    data = save(contiguous, {_ROWS: json.dumps(list(names))})
    path = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:HASH_DIGITS]}{SUFFIX}"
    with replacing(path) as partial:
        partial.write_bytes(data)
    return path.name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` once it lies on the disk.

    Raises:
        MobiusError: If it cannot be written; `path` stays as it was.
    """
    with writing(path), whole_file(path) as partial:
        yield partial


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write `path` in the block, whole or not at all, and explain what keeps it from being written.

    Raises:
        MobiusError: If it cannot be written.
    """
    try:
        yield
        sync(path.parent)
    except OSError as error:
        remedy = "Make room on that disk" if error.errno in _NO_SPACE else "Repair that"
        raise MobiusError(
            f"{path} could not be written ({error.strerror or error}). {remedy} and run `kedro run "
            "--pipelines=encode` again: what is finished stays, and only the rest is encoded."
        ) from error


def row_names(path: Path) -> list[str]:
    """What a shard's rows are, by its header; none if it is damaged or of a release that did not say it."""
    try:
        with safe_open(path, framework="pt") as file:
            rows = (file.metadata() or {}).get(_ROWS, "[]")
        return TypeAdapter(list[str]).validate_json(rows)
    except (OSError, SafetensorError, ValidationError):
        return []


def is_whole(path: Path) -> bool:
    """Whether a shard exists and its bytes are those that its name promises.

    They are hashed once a process, and again only if the file was written to since.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    state = (str(path.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if state in _whole:
        return True
    if sha256(path)[:HASH_DIGITS] != path.stem.split("-")[1]:
        return False
    _whole.add(state)
    return True


def mapped(path: Path) -> "dict[str, Tensor]":
    """A whole shard's tensors by memory map: bytes are read when, and each time that, they are used.

    Raises:
        MobiusError: If the shard is missing or damaged.
    """
    if not is_whole(path):
        what = "is damaged: its bytes are not those that its name promises" if path.exists() else "is missing"
        raise MobiusError(f"The shard {path} of the latents store {what}. {REMEDY}")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a dictionary
