"""The error of every media file that cannot be used."""

import errno

from mobius_pipeline.runtime.errors import MobiusError


class MediaError(MobiusError):
    """A media file that cannot be used, with a plain reason."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an allocation was refused: to a decoder, or in what an error was raised from.

    That is the limit's fault and not the file's, whatever a decoder makes of it.
    """
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False
