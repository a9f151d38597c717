"""Processes to kill."""

import multiprocessing
import os
import sys
from typing import Any

import pytest


@pytest.fixture(scope="session")
def processes() -> Any:
    """Processes that find torch loaded: forked from a server that has run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["victim", "encoder"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11's server looks nowhere else
        context.Process(target=int).start()  # the first one starts the server
    return context
