"""Decode packets to frames with FFmpeg. Damage raises; pictures that a stream-copy cut removed do not."""

from collections.abc import Iterator
from typing import Any

import av

from mobius_pipeline.media.errors import MediaError, out_of_memory
from mobius_pipeline.media.ffmpeg_log import captured, refuse
from mobius_pipeline.media.frames import Limits
from mobius_pipeline.media.packets import begins_open, packets_of

# Log line of the H.264 decoder for an open group of pictures whose first pictures were cut away.
_AFTER_A_CUT = "mmco: unref short failure"


def names_of(context: Any) -> set[str]:
    """Return the names of a stream's codec in FFmpeg's log."""
    return {context.name, context.codec.canonical_name}


class Decoding:
    """Iterator over the frames of a stream from the container's current position, in presentation order.

    It raises `MediaError`, or an error of PyAV, at the first damaged frame.

    Attributes:
        leading: Number of packets at the start that refer to earlier pictures, which were cut away or
            skipped.
    """

    def __init__(self, container: Any, stream: Any, limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self._packets = packets_of(container, stream)
        self._times_are_shown = container.format.name != "avi"
        is_vp9 = stream.codec_context.codec.canonical_name == "vp9"
        self._decoder = _libvpx(stream) if is_vp9 else stream.codec_context
        self._names = names_of(stream.codec_context) | names_of(self._decoder)
        self._shown_from: int | None = None  # presentation time of the first packet, if it is a key frame
        self._is_open = False
        self.leading = self._given = 0
        self._frames = self._decoded()

    def __iter__(self) -> Iterator[Any]:
        return self._frames

    def __next__(self) -> Any:
        return next(self._frames)

    def _decoded(self) -> Iterator[Any]:
        for number, packet in enumerate(self._packets):
            if number == 0 and packet.is_keyframe:
                self._shown_from = packet.pts
                self._is_open = begins_open(packet, self._stream.codec_context)
            for frame in self._frames_of(packet):
                if frame.is_corrupt:
                    raise MediaError("damaged: a frame is corrupt")
                self._given += 1
                yield frame

    def _frames_of(self, packet: Any) -> list[Any]:
        leads = self._leads(packet)
        self.leading += leads
        try:
            with captured() as lines:
                frames: list[Any] = self._decoder.decode(packet if packet.size else None)
            if self._is_open:
                lines = [line for line in lines if not line[2].startswith(_AFTER_A_CUT)]
            refuse(lines, self._names, self._limits)
        except (av.error.FFmpegError, MediaError) as error:
            if not (leads and self._is_open) or out_of_memory(error):
                raise
            return []
        return frames

    def _leads(self, packet: Any) -> bool:
        """Return whether a packet follows the first key frame but is presented before it."""
        if self._shown_from is None or packet.pts is None or packet.is_keyframe:
            return False
        # AVI stores no presentation times: there, all packets before the first decoded frame.
        return packet.pts < self._shown_from if self._times_are_shown else not self._given


def _libvpx(stream: Any) -> Any:
    """Return libvpx's VP9 decoder, which detects most damage; FFmpeg's own decodes almost any bits."""
    decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.options = stream.codec_context.options
    for name in ("color_primaries", "color_trc"):  # stored by the container, not by the stream
        setattr(decoder, name, getattr(stream.codec_context, name))
    return decoder
