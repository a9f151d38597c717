"""The base model's node."""

from pathlib import Path

import pandas as pd

from mobius_pipeline.config import ClipFormat
from mobius_pipeline.training.base_config import BaseConfig


def make_base(manifest: pd.DataFrame, raw_clips: Path, base: BaseConfig, clip: ClipFormat, work: str) -> Path:
    """Import the T2I directory that `base.path` names, or train a small one from the clips."""
    target = Path(work) / "base"
    if base.path is not None:
        from mobius_pipeline.latents.base_check import import_base

        return import_base(Path(base.path), target)
    from mobius_pipeline.training.base import train_base

    return train_base(manifest, raw_clips, clip, base, target)
