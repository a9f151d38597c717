"""Configuration of `validate`. It does not import Great Expectations, which takes seconds."""

from typing import Self

from pydantic import Field, model_validator

from mobius_pipeline.runtime.config import Config
from mobius_pipeline.validation.expectation import kinds_that_judge
from mobius_pipeline.validation.user_expectations import ClipEntry, TableEntry, check_entries


class Range(Config):
    """A closed interval: `min: null` is taken from the clip format, `max: null` is no limit."""

    min: float | None
    max: float | None

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; swap them")
        return self


class ValidateConfig(Config):
    """The section `validate`: limits for a clip, and for the table as a whole.

    Attributes:
        width: Width of a clip in px; `min: null` is the smallest width of the clip format.
        height: Height of a clip in px; likewise.
        fps: Mean frame rate of a clip; `min: null` is the model's rate, below which frames would be repeated.
        duration_s: Length of a clip in seconds; `min: null` is the shortest length of the clip format.
        expectations: Further expectations on each readable clip.
        table_expectations: Further expectations on the manifest as a whole.
        near_duplicate_bits: Largest number of bits, of 192, in which the perceptual hashes of near-duplicates
            may differ; null turns the search off.
        history: Number of runs that Data Docs show.
        warn_rejected_share: Share of unreadable rows above which a warning is logged.
        warn_quarantined_share: Share of readable clips in quarantine above which a warning is logged.
        max_rejected_share: Largest share of unreadable rows among all rows.
        max_quarantined_share: Largest share of readable clips that may fail an expectation.
        min_clips: Fewest clips in the manifest.
    """

    width: Range
    height: Range
    fps: Range
    duration_s: Range
    expectations: tuple[ClipEntry, ...] = ()
    table_expectations: tuple[TableEntry, ...] = ()
    near_duplicate_bits: int | None = Field(default=None, ge=0, le=48)
    history: int = Field(ge=1)
    warn_rejected_share: float = Field(ge=0, le=1)
    max_rejected_share: float = Field(ge=0, le=1)
    warn_quarantined_share: float = Field(ge=0, le=1)
    max_quarantined_share: float = Field(ge=0, le=1)
    min_clips: int = Field(ge=1)

    @model_validator(mode="after")
    def _entries_are_known(self) -> Self:
        # Checked here, so that a misspelt name is an error before clips are decoded for hours.
        check_entries("expectations", self.expectations, kinds_that_judge("Column Map"))
        of_tables = kinds_that_judge("Column Aggregate", "Batch")
        check_entries("table_expectations", self.table_expectations, of_tables)
        return self
