"""Configuration of `ingest`."""

from typing import Literal

from pydantic import Field

from mobius_pipeline.runtime.config import Config, MibLimit, SecondsLimit


class ScenesConfig(Config):
    """PySceneDetect's detectors; `adaptive` compares a frame's change with those of its neighbours."""

    detector: Literal["content", "adaptive"]
    threshold: float = Field(gt=0, description="PySceneDetect's defaults: 27 for content, 3 for adaptive")
    min_length_s: float = Field(gt=0, description="minimum length of a scene, s")


class WindowsConfig(Config):
    """Windows of equal length, cut from each scene, or from the whole source without scene detection."""

    length_s: float = Field(gt=0)
    stride_s: float = Field(gt=0, description="from the start of one window to the next, s")


class IngestConfig(Config):
    """Settings of `ingest`, in `conf/<env>/parameters_ingest.yml`."""

    heldout_share: float = Field(gt=0, lt=1, description="share of the sources held out for evaluation")
    files_per_batch: int = Field(gt=0, description="files that a worker takes at once")
    caption_from_folder: bool = Field(default=False, description="for clips that have no other caption")
    linked_folders: tuple[str, ...] = Field(default=(), description="folders that links may lead into")
    scenes: ScenesConfig | None = None
    windows: WindowsConfig | None = None
    seconds_per_file: SecondsLimit = Field(default=600, description="time limit for reading a file, s")
    memory_mib_per_file: MibLimit = Field(default=4096, description="memory limit of a reading process")
    retries: int = Field(default=1, ge=0, description="retries of a file that killed or crashed its process")
