"""The error of every media file that cannot be used."""

from mobius_pipeline.runtime.errors import MobiusError


class MediaError(MobiusError):
    """A media file that cannot be used, with a plain reason."""
