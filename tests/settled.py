"""Imported last by a server, so that its children do not collect garbage among imported objects."""

from warm import collect_seldom

collect_seldom()
