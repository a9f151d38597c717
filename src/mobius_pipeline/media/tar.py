"""Locate the members of an untrusted tar archive."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# A header may declare text of gigabytes, all of which `tarfile` would read.
_MAX_HEADER = 1 << 20
_TWICE = "this name occurs in the archive more than once"
_DAMAGES = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)


@dataclass
class Archive:
    """The index of a tar archive. Names of members are normalised by `PurePosixPath`, without `./`.

    Attributes:
        members: Regular files: name to (offset, size) of their bytes.
        refused: Members that are not read: name to reason.
        damage: What is wrong with the archive itself, or ""; members before the damage can be read.
    """

    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    damage: str = ""


class _Headers(io.FileIO):
    """A file that refuses to read more than `_MAX_HEADER` bytes at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of more than {_MAX_HEADER:,} bytes")
        return super().read(size) or b""


def index(path: Path) -> Archive:
    """Index an uncompressed tar archive by its headers; the content of members is not read.

    Raises:
        OSError: If the file cannot be read.
    """
    archive, size = Archive(), path.stat().st_size
    try:
        # Not "r": members of a compressed archive cannot be read in place.
        with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in _members(tar, file):
                _take(archive, member, size)
    except _DAMAGES as error:
        archive.damage = f"not a plain tar archive, or damaged ({error})"
    return archive


def _members(tar: tarfile.TarFile, file: _Headers) -> Iterator[tarfile.TarInfo]:
    """Yield the members one by one, without keeping them in memory."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        if member.size < 0:  # would lead back to an earlier header, without end
            raise tarfile.ReadError(f"a member of negative size at byte {member.offset:,}")
        yield member
    file.seek(tar.offset)
    end = file.read(tarfile.BLOCKSIZE)
    if not end:
        raise tarfile.ReadError("it has no end mark: members may be missing")
    if end.strip(b"\0"):  # `tarfile` takes an invalid header for the end
        raise tarfile.ReadError(f"no header at byte {tar.offset:,}; later members are not read")


def _take(archive: Archive, member: tarfile.TarInfo, size: int) -> None:
    path = PurePosixPath(member.name)
    name = str(path)
    if member.isdir():
        return
    reason = _TWICE if name in archive.members or name in archive.refused else _refusal(member, path, size)
    if reason:
        archive.refused[name] = reason
        archive.members.pop(name, None)
    else:
        archive.members[name] = member.offset_data, member.size


def _refusal(member: tarfile.TarInfo, path: PurePosixPath, size: int) -> str:
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the archive"
    if member.issym() or member.islnk():
        return "a link, not a file"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    return "cut off: the archive ends before it does" if member.offset_data + member.size > size else ""
