"""Prepare a stream's packets for its decoder, and detect streams that start in an open group of pictures.

A video that was cut by stream copy may start in an *open group of pictures*: its first key frame is followed
by packets that are presented before it and refer to pictures that were cut away.
"""

from collections.abc import Iterator
from typing import Any

from av.bitstream import BitStreamFilterContext

_IDR = {"h264": {5}, "hevc": {19, 20}}  # NAL unit types of key frames that no later packet refers across
_PICTURES = {"h264": range(1, 6), "hevc": range(32)}


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield packets in decoding order, an empty one last; DivX's packed B-frames are unpacked."""
    if stream.codec_context.codec.canonical_name != "mpeg4":
        yield from container.demux(stream)
        return
    unpack = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in container.demux(stream):
        if packet.size:
            yield from unpack.filter(packet)  # this empties the packet
        else:
            yield from unpack.filter(None)
            yield packet


def begins_open(packet: Any, context: Any) -> bool:
    """Return whether packets after this key frame but presented before it may refer to earlier pictures."""
    codec = context.codec.canonical_name
    if codec not in _IDR:
        return False
    pictures = [
        kind
        for kind in _nal_types(bytes(packet), codec, context.extradata or b"")
        if kind in _PICTURES[codec]
    ]
    return bool(pictures) and pictures[0] not in _IDR[codec]


def _nal_types(data: bytes, codec: str, extradata: bytes) -> list[int]:
    """Return the types of a packet's NAL units (ISO/IEC 14496-10, 23008-2), after start codes or lengths."""
    is_annex_b = not extradata or extradata[0] != 1
    heads = _behind_start_codes(data) if is_annex_b else _behind_lengths(data, _length_size(extradata, codec))
    return [data[at] & 0x1F if codec == "h264" else data[at] >> 1 & 0x3F for at in heads if at < len(data)]


def _length_size(extradata: bytes, codec: str) -> int:
    """Return the bytes of a NAL unit's length field, from an `avcC` or `hvcC` record (ISO/IEC 14496-15)."""
    place = 4 if codec == "h264" else 21
    return (extradata[place] & 3) + 1 if len(extradata) > place else 4


def _behind_lengths(data: bytes, size: int) -> Iterator[int]:
    at = 0
    while at + size < len(data):
        yield at + size
        at += size + int.from_bytes(data[at : at + size])


def _behind_start_codes(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1")
    while at >= 0:
        yield at + 3
        at = data.find(b"\0\0\1", at + 3)
