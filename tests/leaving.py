"""Leftovers of a process that is killed while it writes."""

import os
from pathlib import Path

from mobius_pipeline.runtime.scratch import scratch, scratch_of


def killed_while_writing(target: Path, size: int = 100) -> Path:
    """Let a process die after writing `size` bytes of the folder `target`; return its scratch folder."""
    child = os.fork()
    if child == 0:
        try:
            with scratch(target) as partial:
                partial.mkdir()
                (partial / "weights").write_bytes(bytes(size))
                os._exit(0)  # like a kill, this unwinds nothing
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert (scratch_of(target) / target.name / "weights").stat().st_size == size
    return scratch_of(target)
