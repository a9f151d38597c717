"""Run `encode` in a separate process."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import deadly
import failing
import pandas as pd
import torch

import forked
import tiny
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.latents.dataflow import encode_clips  # noqa: F401, loaded before the processes are forked
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.runtime.daft_runner import EngineConfig
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.signals import sigterm_unwinds

EMPTY: Mapping[str, Any] = MappingProxyType({})


def encode(root: Path, table: Path, clips: Path, base: Path, engine: str = "native", **settings: Any) -> None:
    """Update the store, with small shards."""
    if engine == "native" and settings.get("processes", 1) != 1:
        forked.fork_own_server()
    torch.set_num_threads(1)
    config = tiny.encode_config(clips_per_shard=2, **settings)
    update_store(
        root, pd.read_parquet(table), clips, BaseModel(base), tiny.CLIP, config, EngineConfig(name=engine)
    )


def encode_failing(
    root: Path,
    table: Path,
    clips: Path,
    base: Path,
    engine: str,
    runs: list[tuple[str, str] | tuple[str, str, Mapping[str, Any]]],
    settings: Mapping[str, Any] = EMPTY,
) -> None:
    """Encode once for each store: its name, the lines of its faults, its settings; write down each error."""
    faults = root / "faults"
    os.environ[deadly.FAULTS] = str(faults)
    faults.write_text("")
    failing.install()
    if engine == "ray":
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    for number, (name, lines, *own) in enumerate(runs):
        faults.write_text(lines)
        try:
            encode(root / name, table, clips, base, engine, **settings, **dict(*own))
            reported = ""
        except MobiusError as error:
            reported = str(error)
        (root / f"{number}.txt").write_text(reported)


def encode_in_its_session(*arguments: Any) -> None:
    """Call `encode_failing` like a command that a terminal started."""
    os.setsid()
    sigterm_unwinds()
    encode_failing(*arguments)


def encode_without_room(root: Path, table: Path, clips: Path, base: Path, most_bytes: int) -> None:
    """Encode with a limit on the size of files, in bytes; write down the error."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        encode(root, table, clips, base)
    except MobiusError as error:
        (root / "error.txt").write_text(str(error))


def encode_measured(root: Path, table: Path, clips: Path, base: Path) -> None:
    """Encode with a measured number of processes: several from the second clip."""
    from mobius_pipeline.latents import local, placement

    local.MEASURED_S, placement.SECONDS_EACH = 0, 1e-6
    encode(root, table, clips, base, processes="auto")
