"""Fixtures of the fault tests."""

import multiprocessing
from typing import Any

import pytest


@pytest.fixture(scope="session")
def processes() -> Any:
    """Processes that find torch loaded; see tests/forked.py."""
    return multiprocessing.get_context("forkserver")
