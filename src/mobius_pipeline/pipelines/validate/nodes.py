"""Node of the `validate` pipeline."""

from pathlib import Path

from mobius_pipeline.ingest.clip_table import ClipTable, Manifest, Quarantine
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.remote_files import Readable
from mobius_pipeline.validation.config import ValidateConfig
from mobius_pipeline.validation.expectations import validate_clips
from mobius_pipeline.validation.heldout import trained_on


def make_manifest(
    clip_table: ClipTable, validate: ValidateConfig, clip: ClipFormat, work: Path, earlier: Readable
) -> tuple[Manifest, Quarantine, Path]:
    """Return the clips that pass, the quarantine, and the folder of Data Docs.

    Sources in the training split of the earlier manifest (`earlier`) are never held out.
    """
    found = validate_clips(clip_table.rows, validate, clip, work, trained_on(earlier))
    return Manifest(found.manifest), Quarantine(found.quarantine), found.data_docs
