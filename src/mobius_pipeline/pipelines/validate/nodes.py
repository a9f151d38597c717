"""The validation's node."""

from pathlib import Path

import pandas as pd

from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.validation.expectations import validate_clips
from mobius_pipeline.validation.heldout import trained_on
from mobius_pipeline.validation.rules import ValidateConfig


def make_manifest(
    clip_table: pd.DataFrame, validate: ValidateConfig, clip: ClipFormat, work: Path, earlier: Path
) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Return the clips that pass, the quarantine, and the folder of Data Docs.

    What the manifest that an earlier run left at `earlier` trained on is not held out now.
    """
    return validate_clips(clip_table, validate, clip, work, trained_on(earlier))
