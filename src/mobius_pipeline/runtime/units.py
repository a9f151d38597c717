"""Units of bytes, and bytes as text."""

MIB, GIB = 2**20, 2**30


def size(nbytes: float) -> str:
    """Format bytes in MiB or GiB."""
    return f"{nbytes / GIB:.2f} GiB" if nbytes >= GIB else f"{nbytes / MIB:.1f} MiB"
