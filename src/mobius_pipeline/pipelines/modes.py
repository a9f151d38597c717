"""The modes that have stages of their own."""

MODES = ("serial", "parallel")
