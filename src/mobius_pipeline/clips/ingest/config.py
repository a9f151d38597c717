"""Configuration of the ingestion."""

from pydantic import Field

from mobius_pipeline.config import Config


class IngestConfig(Config):
    """`conf/<env>/parameters_ingest.yml`."""

    heldout_share: float = Field(gt=0, lt=1, description="of the sources, for evaluation")
    files_per_batch: int = Field(gt=0, description="files that a worker takes at once")
    caption_from_folder: bool = Field(default=False, description="for clips that have no other caption")
