"""Define the error for media files that cannot be used."""

import errno

from mobius_pipeline.runtime.errors import MobiusError, raised_from


class MediaError(MobiusError):
    """A media file cannot be used; the text is the reason."""


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, means that memory could not be allocated.

    Decoders report this as damage. Rarely it is: FFmpeg refuses to allocate the sizes in a damaged file.
    """
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = raised_from(error)
    return False
