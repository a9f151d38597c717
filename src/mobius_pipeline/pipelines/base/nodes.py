"""Node of the `base` pipeline."""

from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.config import BaseConfig
from mobius_pipeline.ingest.clip_table import Manifest
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.scratch import unpublished


def make_base(
    manifest: Manifest, raw_clips: Path, source: Path, base: BaseConfig, clip: ClipFormat, work: Path
) -> BaseModel:
    """Import the model in the folder `source` or, if `source` is a YAML file, train a small one on the clips.

    The YAML file is not read here, because a packaged project has it in an archive. Its content is passed as
    `base`; the path lets DVC train again when the file changes.

    Raises:
        MobiusError: If `source` is neither a folder nor a YAML file, or the model cannot be used.
    """
    if source.is_dir():
        from mobius_pipeline.base_model.check import import_base

        return BaseModel(import_base(source, unpublished(work / "base")))
    if source.suffix not in (".yml", ".yaml"):
        raise MobiusError(
            f"There is no folder {source}. Name a model's folder in `base_model` of conf/base/globals.yml, "
            "relative to the project or absolute, or name conf/base/parameters_base.yml to train a small "
            "model with its settings."
        )
    from mobius_pipeline.base_model.train import train_base

    return BaseModel(train_base(manifest.rows, raw_clips, clip, base, unpublished(work / "base")))
