"""Imported last by a server, whose children then collect no garbage among what it imported."""

from warm import collect_seldom

collect_seldom()
