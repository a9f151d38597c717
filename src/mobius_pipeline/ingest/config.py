"""Configuration of the ingestion."""

from typing import Literal

from pydantic import Field

from mobius_pipeline.runtime.config import Config, MibLimit, SecondsLimit


class ScenesConfig(Config):
    """PySceneDetect's detectors: `adaptive` weighs a frame's change against the changes around it."""

    detector: Literal["content", "adaptive"]
    threshold: float = Field(gt=0, description="PySceneDetect's: 27 for content, 3 for adaptive")
    min_length_s: float = Field(gt=0, description="no cut comes sooner after the one before")


class WindowsConfig(Config):
    """Windows of one length in each scene, or in each source without scenes."""

    length_s: float = Field(gt=0)
    stride_s: float = Field(gt=0, description="from one window's start to the next one's")


class IngestConfig(Config):
    """`conf/<env>/parameters_ingest.yml`."""

    heldout_share: float = Field(gt=0, lt=1, description="of the sources, for evaluation")
    files_per_batch: int = Field(gt=0, description="files that a worker takes at once")
    caption_from_folder: bool = Field(default=False, description="for clips that have no other caption")
    linked_folders: tuple[str, ...] = Field(default=(), description="that links of clips may lead into")
    scenes: ScenesConfig | None = None
    windows: WindowsConfig | None = None
    seconds_per_file: SecondsLimit = Field(default=600, description="then its process is killed")
    memory_mib_per_file: MibLimit = Field(default=4096, description="of its process, beyond which it fails")
    retries: int = Field(default=1, ge=0, description="of a file whose process was killed or crashed")
