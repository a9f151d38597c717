"""The errors that a user is meant to read: each says what is wrong, where, and how to fix it."""

import re

from mobius_pipeline.runtime.redaction import redacted

_NO_SPACE = re.compile("no space left|quota exceeded|file too large|disk is full", re.IGNORECASE)
_LONG = 200  # letters


class MobiusError(ValueError):
    """Bad input or configuration, described for the user."""


def in_plain_words(error: BaseException) -> str | None:
    """What to print of an error that the user can fix; None of any other, whose traceback is wanted.

    Any library may wrap an error of ours, or be the one that meets a full disk: SQLite, and what is written
    in Rust, report it as text alone. Secrets are left out (`redacted`).
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MobiusError):
            return redacted(str(cause))
        said = str(cause).partition("\n")[0]
        if found := _NO_SPACE.search(said):
            shown = redacted(said) if len(said) < _LONG else found[0]
            return (
                f"The disk is full ({shown}). Make room on it, then give the same command again. "
                "What was finished before is kept."
            )
        cause = cause.__cause__ or cause.__context__
    return None
