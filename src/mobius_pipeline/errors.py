"""The errors that a user is meant to read: each says what is wrong, where, and how to mend it."""

import errno
import re
from collections.abc import Iterator

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# SQLite, and libraries that are written in Rust, tell of it in words alone.
_NO_SPACE_IN_WORDS = re.compile("no space left|quota exceeded|file too large|disk is full", re.IGNORECASE)


class MobiusError(ValueError):
    """Bad input or configuration, described for the user."""


def in_plain_words(error: BaseException) -> str | None:
    """What to print of an error that the user can mend; None of any other, whose traceback is wanted.

    Any library may be the one that meets a full disk, so that is told here for all of them.
    """
    if isinstance(error, MobiusError):
        return str(error)
    for cause in _causes(error):
        said = str(cause).partition("\n")[0]
        if (isinstance(cause, OSError) and cause.errno in NO_SPACE) or _NO_SPACE_IN_WORDS.search(said):
            return (
                f"The disk is full: {said}. Make room on it, then give the same command again. What was "
                "finished before is kept."
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from, the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
