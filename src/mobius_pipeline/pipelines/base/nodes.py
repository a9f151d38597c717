"""The base model's node."""

from pathlib import Path

import pandas as pd

from mobius_pipeline.config import ClipFormat
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.training.base_config import BaseConfig


def make_base(
    manifest: pd.DataFrame, raw_clips: Path, source: Path, base: BaseConfig, clip: ClipFormat, work: Path
) -> Path:
    """Import the model in the folder `source`, or train a small one from the clips if it is a file.

    Raises:
        MobiusError: If there is neither, or the model cannot be used.
    """
    if source.is_dir():
        from mobius_pipeline.latents.base_check import import_base

        return import_base(source, work / "base")
    if not source.is_file():
        raise MobiusError(
            f"There is no {source}. Name a model's folder in `base_model` of conf/base/globals.yml, relative "
            "to the project or absolute; or conf/base/parameters_base.yml, to train a small one as that says."
        )
    from mobius_pipeline.training.base import train_base

    return train_base(manifest, raw_clips, clip, base, work / "base")
