"""Read and write shards: immutable safetensors files, named by the hash of their bytes.

A shard's header lists the names of its rows (clip ids or captions), so a finished shard is usable even if no
index was written after it.
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
from mobius_pipeline.runtime.files import atomic_file, sha256, sync

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
HASH_DIGITS = 20
REMEDY = "Run `kedro run --pipelines=encode`: it encodes only what the store has lost."
_ROWS = "rows"  # the only key of the header's metadata: safetensors writes several keys in random order
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_whole: set[tuple[str, int, int, int]] = set()  # files whose hash was verified in this process


def write_shard(folder: Path, kind: str, names: Sequence[str], tensors: "dict[str, Tensor]") -> str:
    """Write a shard and return its file name.

    Args:
        folder: The folder to write to.
        kind: Prefix of the file name.
        names: Names of the rows.
        tensors: (n, …) each, where n is the number of names.

    Raises:
        MobiusError: If it cannot be written, for instance to a full disk; no partial file is left.
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
    """Yield a temporary path that replaces `path` when the block ends.

    Raises:
        MobiusError: If it cannot be written; `path` is unchanged then.
    """
    with writing(path), atomic_file(path) as partial:
        yield partial


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into an error with a remedy; then sync the folder.

    Raises:
        MobiusError: If `path` cannot be written.
    """
    try:
        yield
        sync(path.parent)
    except OSError as error:
        remedy = "Make room on that disk" if error.errno in _NO_SPACE else "Repair that"
        raise MobiusError(
            f"{path} could not be written ({error.strerror or error}). {remedy} and run `kedro run "
            "--pipelines=encode` again: finished shards are kept, and only the rest is encoded."
        ) from error


def row_names(path: Path) -> list[str]:
    """Return the row names in a shard's header; none if it is damaged, or from a release without them."""
    try:
        with safe_open(path, framework="pt") as file:
            rows = (file.metadata() or {}).get(_ROWS, "[]")
        return TypeAdapter(list[str]).validate_json(rows)
    except (OSError, SafetensorError, ValidationError):
        return []


def is_intact(path: Path) -> bool:
    """Return whether a shard exists and its bytes match the hash in its name.

    A file is hashed once per process, and again only if it was modified since.
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
    """Return the tensors of an intact shard, memory-mapped.

    Raises:
        MobiusError: If the shard is missing or damaged.
    """
    if not is_intact(path):
        what = "is damaged: its bytes do not match the hash in its name" if path.exists() else "is missing"
        raise MobiusError(f"The shard {path} of the latents store {what}. {REMEDY}")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
