"""An encode in a process of its own."""

from pathlib import Path

import pandas as pd
import torch

import tiny
from mobius_pipeline.engine import EngineConfig
from mobius_pipeline.latents.encode import update_store
from mobius_pipeline.latents.flow import encode_clips  # noqa: F401, loaded before the processes are forked


def encode(root: Path, table: Path, clips: Path, base: Path, engine: str = "native") -> None:
    """Bring the store up to date, small shards at a time."""
    torch.set_num_threads(1)
    config = tiny.encode_config(clips_per_shard=2)
    if engine == "ray":
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    update_store(root, pd.read_parquet(table), clips, base, tiny.CLIP, config, EngineConfig(name=engine))


def encode_without_room(root: Path, table: Path, clips: Path, base: Path, most_bytes: int) -> None:
    """The same where no file may grow beyond so many bytes; what it fails with is written down."""
    import resource

    from mobius_pipeline.errors import MobiusError

    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        encode(root, table, clips, base)
    except MobiusError as error:
        (root / "error.txt").write_text(str(error))
