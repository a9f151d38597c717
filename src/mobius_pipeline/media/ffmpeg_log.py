"""Detect damage by the error lines that FFmpeg logs.

Each line must be attributed to the file that it is about. PyAV's logging settings apply to the whole process,
where several threads read files, so they are set once, here. By default, PyAV holds back a line that repeats
the one before, and emits it with the lines of a later file.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import av

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.frames import Limits

Line = tuple[int, str, str]  # level, name of the demuxer or codec, text

# Messages about defects that every player ignores: (codec, start of the line).
_HARMLESS = {("mjpeg", "unable to decode APP fields")}  # some cameras write APP segments that are too short

av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
_uncaptured = logging.getLogger("libav")  # lines about no open file, such as one that is being closed
_uncaptured.addHandler(logging.NullHandler())
_uncaptured.propagate = False
_level = Lock()


@contextmanager
def captured() -> Iterator[list[Line]]:
    """Yield a list that collects the lines that FFmpeg logs in this thread within the block."""
    with av.logging.Capture() as lines:
        yield lines


def refuse(lines: Collection[Line], codecs: Collection[str], limits: Limits) -> None:
    """Raise a MediaError if log lines report damage: errors of the demuxer, or of one of `codecs`.

    Errors of the codec of another stream, such as sound, are ignored.
    """
    texts = [
        text.strip()
        for level, name, text in lines
        if level <= av.logging.ERROR
        and (name in codecs or name not in av.codecs_available)
        and not any(name == codec and text.startswith(begin) for codec, begin in _HARMLESS)
    ]
    for text in texts:
        if text.startswith("Picture size"):
            raise MediaError(f"a frame has more than {limits.pixels:,} pixels, the limit ({text})")
    if texts:
        raise MediaError(f"damaged ({texts[0]})")


def description(container: Any) -> str:
    """Return FFmpeg's description of an open container (`av_dump_format`), which PyAV emits as log lines."""
    with _level:
        av.logging.set_level(av.logging.INFO)
        try:
            return str(container.dumps_format())
        finally:
            av.logging.set_level(av.logging.ERROR)
