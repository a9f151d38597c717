"""Detect files that were cut off, by the container's sizes: FFmpeg ends the stream without an error."""

import zlib
from collections.abc import Iterable
from typing import BinaryIO, Protocol

# Boxes at the top level of an ISO file (ISO/IEC 14496-12) or of QuickTime's.
_BOXES = {"ftyp", "styp", "moov", "moof", "mdat", "mfra", "sidx", "meta", "free", "skip", "wide", "uuid"}
_MOST_BOXES = 100_000  # that are looked at: a file can hold one every 8 bytes
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
# Info, Tracks and Cluster: what decides the frames. An element begins with its checksum (RFC 8794, 11.3.1).
_SUMMED = {b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"}
_CRC_32 = b"\xbf\x84"
_PIECE = 1 << 20  # bytes that are read at once
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C  # how blocks begin (GIF89a, appendix A)
_GIF_CONTROL = b"\xf9"  # an extension that an image follows


class IndexEntry(Protocol):
    """A packet that a container's index promises: `size` bytes at byte `pos` of the file."""

    pos: int
    size: int


def is_cut(file: BinaryIO, container: str, index: Iterable[IndexEntry]) -> bool:
    """Say whether bytes are missing at the end of `file`, of the demuxer named `container`.

    The file's position is left as it is found: the demuxer counts on it.
    """
    position = file.tell()
    try:
        return _is_cut(file, container, index)
    finally:
        file.seek(position)


def boxes_are_cut(file: BinaryIO) -> bool:
    """Say whether the last box of an ISO file (mp4, mov) promises bytes that are not there; others have none.

    It is checked before a demuxer opens the file: its error for a missing index would mislead.
    The file's position is left as it is found.
    """
    position = file.tell()
    try:
        size = file.seek(0, 2)
        return _boxes_end(file, size) > size
    finally:
        file.seek(position)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Byte at which a file's top boxes end; what is none of them ends the search, for it may be padding."""
    end = 0
    for _ in range(_MOST_BOXES):
        if end >= size:
            break
        file.seek(end)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8].decode("latin-1")
        if kind not in _BOXES or length == 0:  # 0: to the file's end, wherever that is
            break
        end += max(int.from_bytes(header[8:]) if length == 1 else length, 8)
    return end


def _is_cut(file: BinaryIO, container: str, index: Iterable[IndexEntry]) -> bool:
    size = file.seek(0, 2)
    if any(entry.pos + entry.size > size for entry in index):
        return True
    if container.startswith("matroska"):
        file.seek(0)
        return _segment_end(file) > size
    if container == "gif":
        file.seek(0)
        return _gif_is_cut(file, size)
    if container == "apng":
        file.seek(len(_PNG_SIGNATURE))
        return _png_is_cut(file, size)
    return False


def sums_disagree(file: BinaryIO, container: str) -> bool:
    """Say whether bytes differ from the checksums that their container holds: PNG's and Matroska's.

    The file's position is left as it is found.
    """
    position = file.tell()
    try:
        if container == "apng":
            return _png_sums_disagree(file)
        return container.startswith("matroska") and _matroska_sums_disagree(file)
    finally:
        file.seek(position)


def _png_is_cut(file: BinaryIO, size: int) -> bool:
    """Whether the chunk that ends a PNG is missing (PNG specification, 5.3)."""
    while (at := file.tell()) + 12 <= size:
        length, kind = int.from_bytes(file.read(4)), file.read(4)
        if kind == b"IEND":
            return False
        file.seek(at + 12 + length)
    return True


def _png_sums_disagree(file: BinaryIO) -> bool:
    file.seek(len(_PNG_SIGNATURE))
    frames, promised = 0, 0
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"acTL":
            promised = int.from_bytes(file.read(4))
            file.seek(-4, 1)
        frames += kind == b"fcTL"
        if _crc(file, length, zlib.crc32(kind)) != int.from_bytes(file.read(4)):
            return True
    return frames != promised


def _matroska_sums_disagree(file: BinaryIO) -> bool:
    """Whether an element of a Matroska file differs from its checksum, or is at an impossible place."""
    file.seek(0)
    end = _segment_end(file)
    while (at := file.tell()) < end:
        first = file.read(1)[0]
        more = 8 - first.bit_length()
        if more > 3:  # an element's name has four bytes at most
            return True
        name = bytes([first]) + file.read(more)
        size = _size_field(file)
        if size is None:  # open: only a parser of all that is in it finds its end
            return False
        body = file.tell()
        if body + size > end or body <= at:
            return True
        if name in _SUMMED and file.read(2) == _CRC_32:
            expected = int.from_bytes(file.read(4), "little")
            if _crc(file, size - 6) != expected:
                return True
        file.seek(body + size)
    return False


def _crc(file: BinaryIO, size: int, start: int = 0) -> int:
    """CRC-32 of the next `size` bytes, or of those that are there."""
    while size > 0 and (piece := file.read(min(size, _PIECE))):
        start, size = zlib.crc32(piece, start), size - len(piece)
    return start


def _gif_is_cut(file: BinaryIO, size: int) -> bool:
    """Whether a GIF ends before or inside an image; its trailer may be missing, and bytes may follow that."""
    head = file.read(13)
    if len(head) < 13:
        return True
    file.seek(_colours(head[10]), 1)
    ends = False  # whether the last block was an image, or one that may follow the last image
    while (at := file.tell()) < size:
        kind = file.read(1)[0]
        if kind == _GIF_IMAGE:
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return True
            file.seek(_colours(descriptor[8]) + 1, 1)  # and the size of a code
            ends = True
        elif kind == _GIF_EXTENSION:
            ends &= file.read(1) != _GIF_CONTROL
        else:  # the trailer, or what no reader knows
            return False
        while length := file.read(1).ljust(1, b"\xff")[0]:
            file.seek(length, 1)
            if file.tell() > size:
                return True
    return at > size or not ends


def _colours(flags: int) -> int:
    """Bytes of a colour table (GIF89a, 18 and 20)."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _segment_end(file: BinaryIO) -> int:
    """Byte at which a Matroska file's segment ends, 0 if its writer left that open (RFC 8794, RFC 9559)."""
    if int.from_bytes(file.read(4)) != _EBML:
        return 0
    file.seek(_size_field(file) or 0, 1)
    if int.from_bytes(file.read(4)) != _SEGMENT:
        return 0
    size = _size_field(file)
    return 0 if size is None else file.tell() + size


def _size_field(file: BinaryIO) -> int | None:
    """Read an EBML variable-length size; None if all its bits are one, which means "unknown"."""
    first = file.read(1).ljust(1, b"\0")[0]
    if not first:  # more than eight bytes: no size that is allowed
        return None
    more = 8 - first.bit_length()  # leading zero bits of the first byte count the bytes that follow
    value = int.from_bytes(bytes([first & ((1 << (7 - more)) - 1)]) + file.read(more))
    return None if value == (1 << (7 * (more + 1))) - 1 else value
