"""Errors for users to read: each says what is wrong, where, and how to fix it."""

import re

from mobius_pipeline.runtime.redaction import redacted

_NO_SPACE = re.compile("no space left|quota exceeded|file too large|disk is full", re.IGNORECASE)
_NO_RIGHT = re.compile(r"\[errno (1|13|30)\]|\(os error (1|13|30)\)|readonly database", re.IGNORECASE)
_LONG = 200  # characters
_AGAIN = "then give the same command again. What was finished before is kept."
_FULL = "The disk is full ({}). Make room on it, " + _AGAIN
_CLOSED = "No right to read or write there ({}). Give this user the right, or name another place, " + _AGAIN


class MobiusError(ValueError):
    """Bad input or configuration, described for the user."""


def in_plain_words(error: BaseException) -> str | None:
    """Return the message of an error that the user can fix; None for others, whose traceback is needed.

    Any library may wrap our errors, or fail on a full disk or on a missing permission; SQLite and libraries
    written in Rust report these as text only. Secrets are removed (`redacted`).
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MobiusError):
            return redacted(str(cause))
        line = str(cause).partition("\n")[0]
        for pattern, words in ((_NO_SPACE, _FULL), (_NO_RIGHT, _CLOSED)):
            if found := pattern.search(line):
                return words.format(redacted(line) if len(line) < _LONG else found[0])
        cause = raised_from(cause)
    return None


def raised_from(error: BaseException) -> BaseException | None:
    """Return the error that `error` was raised from, as a traceback shows it: not after `from None`."""
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__
