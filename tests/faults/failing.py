"""Clips that fail in decoding or in the VAE, in whatever process that happens, as a file says.

Each line of it is what fails ("read" or "vae"), of which clip (its path, or its frames' digest), how
("raise", "refuse" or "kill"), and how often.
"""

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import tiny
from mobius_pipeline.clips.media.clip import load_clip
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.latents import flow
from mobius_pipeline.latents.base import to_unit

FAULTS = "MOBIUS_TEST_FAULTS"  # names the file; which of its clips were tried is written beside it


def install() -> None:
    """Have clips fail in this process; each of Ray's calls it as it starts."""
    flow.read_clip = failing("read", flow.read_clip)
    flow.posterior_moments = failing("vae", flow.posterior_moments)


def in_reading(path: str, how: str, times: int) -> str:
    return f"read {path} {how} {times}\n"


def in_the_vae(clips: Path, path: str, how: str, times: int) -> str:
    frames = to_unit(torch.from_numpy(load_clip(clips / path, tiny.CLIP)))
    return f"vae {_key(frames)} {how} {times}\n"


def tried(faults: Path) -> list[str]:
    """What was tried that may fail."""
    log = faults.with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


def failing(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def fails(first: Any, clip: Any, *rest: Any) -> Any:
        faults = Path(os.environ[FAULTS])
        for line in faults.read_text().splitlines():
            where, key, how, times = line.split()
            if (where, key) == (stage, _key(clip)):
                with faults.with_suffix(".log").open("a") as log:
                    log.write(f"{where} {key}\n")
                if tried(faults).count(f"{where} {key}") <= int(times):
                    _fail(how)
        return work(first, clip, *rest)

    return fails


def _key(clip: Any) -> str:
    return clip if isinstance(clip, str) else hashlib.sha256(clip.numpy().tobytes()).hexdigest()


def _fail(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise MobiusError("nobody can") if how == "refuse" else RuntimeError("out of luck\nand more")
