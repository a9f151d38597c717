"""Detect truncated files by the sizes in their container: FFmpeg ends such streams without an error."""

import zlib
from collections.abc import Iterable
from typing import BinaryIO, Protocol

# Boxes at the top level of an ISO file (ISO/IEC 14496-12) or of QuickTime's.
_BOXES = {"ftyp", "styp", "moov", "moof", "mdat", "mfra", "sidx", "meta", "free", "skip", "wide", "uuid"}
_MOST_BOXES = 100_000  # boxes that are examined: a file can hold one every 8 bytes
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
# Info, Tracks and Cluster determine the frames. An element starts with its checksum (RFC 8794, 11.3.1).
_SUMMED = {b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"}
_CRC_32 = b"\xbf\x84"
_PIECE = 1 << 20  # bytes to read at once
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C  # first bytes of blocks (GIF89a, appendix A)
_GIF_CONTROL = b"\xf9"  # extension that precedes an image


class IndexEntry(Protocol):
    """A packet in a container's index: `size` bytes at byte `pos` of the file."""

    pos: int
    size: int


def is_cut(file: BinaryIO, container: str, index: Iterable[IndexEntry]) -> bool:
    """Return whether bytes are missing at the end of `file`; `container` is FFmpeg's name of the demuxer.

    The file's position is restored, because the demuxer relies on it.
    """
    position = file.tell()
    try:
        return _is_cut(file, container, index)
    finally:
        file.seek(position)


def boxes_are_cut(file: BinaryIO) -> bool:
    """Return whether the last box of an ISO file (MP4, MOV) extends beyond the end; False for other files.

    Check this before a demuxer opens the file: the demuxer's error about a missing index would be misleading.
    The file's position is restored.
    """
    position = file.tell()
    try:
        size = file.seek(0, 2)
        return _boxes_end(file, size) > size
    finally:
        file.seek(position)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return the byte where the top-level boxes end; an unknown box ends the search, as it may be padding."""
    end = 0
    for _ in range(_MOST_BOXES):
        if end >= size:
            break
        file.seek(end)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8].decode("latin-1")
        if kind not in _BOXES or length == 0:  # 0: the box extends to the end of the file
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
    """Return whether bytes differ from the checksums in their container (PNG and Matroska).

    The file's position is restored.
    """
    position = file.tell()
    try:
        if container == "apng":
            return _png_sums_disagree(file)
        return container.startswith("matroska") and _matroska_sums_disagree(file)
    finally:
        file.seek(position)


def _png_is_cut(file: BinaryIO, size: int) -> bool:
    """Return whether a PNG lacks its last chunk, IEND (PNG specification, 5.3)."""
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
    """Return whether a Matroska element differs from its checksum or has an impossible position."""
    file.seek(0)
    end = _segment_end(file)
    while (at := file.tell()) < end:
        first = file.read(1)[0]
        more = 8 - first.bit_length()
        if more > 3:  # an element's ID has at most four bytes
            return True
        name = bytes([first]) + file.read(more)
        size = _size_field(file)
        if size is None:  # unknown size: only parsing its content would find its end
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
    """Return the CRC-32 of the next `size` bytes, or of fewer at the end of the file."""
    while size > 0 and (piece := file.read(min(size, _PIECE))):
        start, size = zlib.crc32(piece, start), size - len(piece)
    return start


def _gif_is_cut(file: BinaryIO, size: int) -> bool:
    """Return whether a GIF ends before or inside an image; a missing trailer or bytes after it are fine."""
    head = file.read(13)
    if len(head) < 13:
        return True
    file.seek(_colours(head[10]), 1)
    ends = False  # whether the file may end here: after an image, or an extension that may follow it
    while (at := file.tell()) < size:
        kind = file.read(1)[0]
        if kind == _GIF_IMAGE:
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return True
            file.seek(_colours(descriptor[8]) + 1, 1)  # + 1: the LZW code size
            ends = True
        elif kind == _GIF_EXTENSION:
            ends &= file.read(1) != _GIF_CONTROL
        else:  # the trailer, or an unknown block
            return False
        while length := file.read(1).ljust(1, b"\xff")[0]:
            file.seek(length, 1)
            if file.tell() > size:
                return True
    return at > size or not ends


def _colours(flags: int) -> int:
    """Return the size of a colour table in bytes (GIF89a, 18 and 20)."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _segment_end(file: BinaryIO) -> int:
    """Return the byte where a Matroska file's segment ends, 0 if its size is unknown (RFC 8794, RFC 9559)."""
    if int.from_bytes(file.read(4)) != _EBML:
        return 0
    file.seek(_size_field(file) or 0, 1)
    if int.from_bytes(file.read(4)) != _SEGMENT:
        return 0
    size = _size_field(file)
    return 0 if size is None else file.tell() + size


def _size_field(file: BinaryIO) -> int | None:
    """Read an EBML variable-length size; None if it is invalid or unknown (all bits are one)."""
    first = file.read(1).ljust(1, b"\0")[0]
    if not first:  # more than eight bytes, which is not allowed
        return None
    more = 8 - first.bit_length()  # leading zero bits of the first byte: number of bytes that follow
    value = int.from_bytes(bytes([first & ((1 << (7 - more)) - 1)]) + file.read(more))
    return None if value == (1 << (7 * (more + 1))) - 1 else value
