"""What FFmpeg says while it reads, as damage or none.

Damage is judged by FFmpeg's error lines, so each must arrive with the file that it is about. PyAV's switches
are the process's own, and threads read at the same time: they are set once, here. By default PyAV holds back
a line that equals the one before, and gives it out with a later file's.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import av

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.frames import Limits

Line = tuple[int, str, str]  # level, who says it (a demuxer or a codec), text

# Messages about what every player ignores: (codec, how the line begins).
_HARMLESS = {
    ("mjpeg", "unable to decode APP fields")
}  # some cameras write segments shorter than their kind's

av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
_uncaptured = logging.getLogger("libav")  # lines of no file that is being read, as of one that is closed
_uncaptured.addHandler(logging.NullHandler())
_uncaptured.propagate = False
_level = Lock()


@contextmanager
def captured() -> Iterator[list[Line]]:
    """Yield a list of the lines that this thread's calls of FFmpeg cause meanwhile."""
    with av.logging.Capture() as lines:
        yield lines


def refuse(lines: Collection[Line], codecs: Collection[str], limits: Limits) -> None:
    """Raise a MediaError if log lines report damage: errors of the demuxer, or of a codec of `codecs`.

    What another stream's codec says, such as the sound's, decides nothing.
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
    """FFmpeg's own description of an open container (`av_dump_format`), which PyAV gives as log lines."""
    with _level:
        av.logging.set_level(av.logging.INFO)
        try:
            return str(container.dumps_format())
        finally:
            av.logging.set_level(av.logging.ERROR)
