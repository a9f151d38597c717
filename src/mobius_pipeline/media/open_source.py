"""Open the bytes of a source: a file, or a member of a tar shard in WebDataset's layout.

A path names a shard like a folder: `shards/000.tar/0001.mp4`. Members are read in place, without unpacking.
"""

import io
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.tar import Archive, index


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, or a member of a tar shard, as a seekable binary file.

    Raises:
        MediaError: If it does not exist, is not a regular file, or is a member that is refused.
        PermissionError: If it may not be read.
    """
    file, member = split_member(path)
    if member is None:
        return _regular(file)
    shard = members_of(file)
    if member in shard.refused:
        raise MediaError(shard.refused[member])
    if member not in shard.members:
        missing = f"there is no such member in {file.name}"
        raise MediaError(f"{file.name} is {shard.damage}" if shard.damage else missing)
    return cast(BinaryIO, io.BufferedReader(_Slice(_regular(file), *shard.members[member])))


def split_member(path: Path) -> tuple[Path, str | None]:
    """Return the tar shard that holds `path` and the member's name; (`path`, None) if there is no shard."""
    if path.exists():
        return path, None
    for above in path.parents:
        if above.is_file():
            return above, path.relative_to(above).as_posix()
    return path, None


def members_of(path: Path) -> Archive:
    """Return the index of an uncompressed tar archive, cached in this process until the file changes."""
    found = path.stat()
    return _index(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _index(path: Path, size: int, mtime_ns: int) -> Archive:
    return index(path)


def _regular(path: Path) -> BinaryIO:
    """Open a regular file only: a named pipe would block, and a device has no end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError("there is no such file") from error
    except PermissionError:
        raise
    except OSError as error:  # a socket
        raise MediaError(f"cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaError("not a regular file")
    return os.fdopen(descriptor, "rb")


class _Slice(io.RawIOBase):
    """The `size` bytes of `file` from `offset`, as a file; closing it closes `file`."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("cannot seek before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
