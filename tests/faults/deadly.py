"""Work that fails on the clips that a file lists. It does not import torch, for decoding processes."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobius_pipeline.latents.ingested_source import read_sized
from mobius_pipeline.runtime.errors import MobiusError

FAULTS = "MOBIUS_TEST_FAULTS"  # names the file; which of its clips were tried is written beside it


def tried(faults: Path) -> list[str]:
    """Return the attempts at clips that may fail."""
    log = faults.with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


def failing(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def fails(first: Any, clip: Any, *rest: Any) -> Any:
        faults = Path(os.environ[FAULTS])
        for line in faults.read_text().splitlines():
            where, key, how, times = line.split()
            if (where, key) == (stage, key_of(clip)):
                with faults.with_suffix(".log").open("a") as log:
                    log.write(f"{where} {key}\n")
                if tried(faults).count(f"{where} {key}") <= int(times):
                    _fail(how)
        return work(first, clip, *rest)

    return fails


def key_of(clip: Any) -> str:
    return clip if isinstance(clip, str) else hashlib.sha256(clip.numpy().tobytes()).hexdigest()


def _fail(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(600)
    raise MobiusError("nobody can") if how == "refuse" else RuntimeError("out of luck\nand more")


def read(raw_clips: Path, clip: Any, wanted: tuple[str, str, int, int, int]) -> Any:
    """Call `read_sized`, failing as listed; it can be sent to any process."""
    return failing("read", lambda _, path: read_sized(raw_clips, clip, wanted))(None, wanted[0])
