"""The error of every media file that cannot be used."""

import errno

from mobius_pipeline.runtime.errors import MobiusError, raised_from


class MediaError(MobiusError):
    """A media file that cannot be used, with a plain reason."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an allocation was refused, also in what the error was raised from.

    A decoder calls that damage, and seldom it is: FFmpeg refuses sizes that no file has.
    """
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = raised_from(error)
    return False
