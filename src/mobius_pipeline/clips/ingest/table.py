"""A folder of media files as a table, one row a clip.

| column | what it holds |
| --- | --- |
| clip_id | SHA-256 of (media bytes, start frame, end frame) |
| source_sha256 | SHA-256 of the media file |
| path | relative to the folder, POSIX; unique among clips |
| caption | the first of `captions`, "" where there is none |
| captions | all distinct ones, a list of texts |
| start_frame, end_frame | the clip's frames in its file, the end exclusive |
| frames | decoded frames |
| model_frames | frames that the clip gives at the model's rate |
| width, height | px |
| fps | mean frames a second |
| duration_s | seconds |
| container, codec | as FFmpeg or Pillow name them |
| bytes | of the file |
| split | "train" or "heldout", by the hash of the source |
| status, reason | "ok", or "rejected" and why |
"""

import hashlib
import logging
from pathlib import Path

import pandas as pd

from mobius_pipeline.clips.ingest.captions import read_captions
from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.flow import describe_all
from mobius_pipeline.clips.ingest.sources import find_media
from mobius_pipeline.clips.media.clip import steps_within
from mobius_pipeline.config import ClipFormat

log = logging.getLogger(__name__)


def tabulate(folder: Path, config: IngestConfig, clip: ClipFormat) -> pd.DataFrame:
    """Probe every media file below `folder` and return the table of clips, sorted by path.

    Raises:
        MobiusError: If there are no sources of clips, or the listing or the captions cannot be read.
    """
    sources = find_media(folder)
    captions = read_captions(folder, sources, config)
    rows = describe_all(folder, sources.paths, config) + sources.rejected()
    table = pd.DataFrame(rows).sort_values("path", ignore_index=True)
    table["captions"] = [captions.get(path, []) for path in table["path"]]
    table["caption"] = [next(iter(several), "") for several in table["captions"]]
    table["model_frames"] = [steps_within(seconds, clip.rate) for seconds in table["duration_s"]]
    table["split"] = [split_of(source, config.heldout_share) for source in table["source_sha256"]]
    table["clip_id"] = [
        clip_id(source, start, end)
        for source, start, end in zip(
            table["source_sha256"], table["start_frame"], table["end_frame"], strict=True
        )
    ]
    _tell(table, folder)
    return table


def clip_id(source_sha256: str, start_frame: int, end_frame: int) -> str:
    """SHA-256 of the media bytes' digest and the frame range: the clip's name wherever its file lies."""
    return hashlib.sha256(f"{source_sha256}:{start_frame}:{end_frame}".encode()).hexdigest()


def split_of(source_sha256: str, heldout_share: float) -> str:
    """A source's split, from its own hash: it stays where it is when other clips come and go."""
    place = int(hashlib.sha256(f"split:{source_sha256}".encode()).hexdigest()[:8], 16) / 16**8
    return "heldout" if place < heldout_share else "train"


def _tell(table: pd.DataFrame, folder: Path) -> None:
    rejected = table[table["status"] == "rejected"]
    uncaptioned = int((table["caption"] == "").sum())
    log.info(
        "%d clips in %s: %d read, %d rejected, %d without a caption.",
        len(table),
        folder,
        len(table) - len(rejected),
        len(rejected),
        uncaptioned,
    )
    for row in rejected.itertuples():
        log.warning("Rejected: %s (%s)", row.path, row.reason)
