"""The errors that a user is meant to read: each says what is wrong, where, and how to mend it."""


class MobiusError(ValueError):
    """Bad input or configuration, described for the user."""
