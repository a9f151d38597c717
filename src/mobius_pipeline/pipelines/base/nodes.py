"""The base model's node."""

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
    """Import the model in the folder `source`, or train a small one from the clips if that names a YAML file.

    That file is not read here, and a packaged project has it in an archive: what it holds comes as `base`,
    and DVC trains again when it changes.

    Raises:
        MobiusError: If it is neither, or the model cannot be used.
    """
    if source.is_dir():
        from mobius_pipeline.base_model.check import import_base

        return BaseModel(import_base(source, unpublished(work / "base")))
    if source.suffix not in (".yml", ".yaml"):
        raise MobiusError(
            f"There is no folder {source}. Name a model's folder in `base_model` of conf/base/globals.yml, "
            "relative to the project or absolute; or conf/base/parameters_base.yml, to train a small one as "
            "that says."
        )
    from mobius_pipeline.base_model.train import train_base

    return BaseModel(train_base(manifest.rows, raw_clips, clip, base, unpublished(work / "base")))
