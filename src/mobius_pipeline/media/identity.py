"""Identify a source by the hash of its bytes."""

import hashlib
from pathlib import Path

from mobius_pipeline.media.open_source import open_bytes
from mobius_pipeline.runtime.files import folder_digest


def source_sha256(source: Path) -> str:
    """Return the hex SHA-256 of a file, of a member of a tar shard, or of all files of a folder of images.

    Raises:
        MediaError: If there is no such source.
        OSError: If it cannot be read.
    """
    if source.is_dir():
        return folder_digest(source)
    with open_bytes(source) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
