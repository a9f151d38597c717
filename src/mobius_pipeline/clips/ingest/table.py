"""A folder of media files as a table, one row a clip.

| column | what it holds |
| --- | --- |
| clip_id | SHA-256 of (media bytes, start frame, end frame) |
| source_sha256 | SHA-256 of the source's bytes |
| source | file, member of a tar shard or folder of images, relative to the folder, POSIX |
| path | the source, or a segment of it: `a/b.mp4#t=1.5,3` in seconds; unique among clips |
| caption | the first of `captions`, "" where there is none |
| captions | all distinct ones, a list of texts |
| words | of letters, in `caption` |
| start_frame, end_frame | the clip's frames in its source, the end exclusive |
| frames | decoded frames |
| model_frames | frames that the clip gives at the model's rate |
| width, height | px as displayed |
| aspect | width / height |
| fps | mean frames a second |
| duration_s | seconds |
| container, codec | as FFmpeg or Pillow name them |
| motion | mean change of a pixel from frame to frame, at the model's rate, in grey levels (0 to 255) |
| static_share | of those pairs of frames, the share that changes by less than half a grey level |
| black_share | share of frames that are nearly black |
| flicker | mean change of the change of a frame's brightness, in grey levels |
| likeness | perceptual hashes of the first, the middle and the last frame, hex |
| duplicate_of | path of the earlier clip that looks nearly the same, "" if there is none |
| bytes | of the source |
| split | "train" or "heldout", by the hash of the source |
| status, reason | "ok", or "rejected" and why |
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from mobius_pipeline.clips.ingest.captions import read_captions
from mobius_pipeline.clips.ingest.config import IngestConfig
from mobius_pipeline.clips.ingest.describe import ROW
from mobius_pipeline.clips.ingest.likeness import first_alike
from mobius_pipeline.clips.ingest.read import read_sources
from mobius_pipeline.clips.ingest.sources import find_media
from mobius_pipeline.clips.media.clip import steps_within
from mobius_pipeline.config import ClipFormat

log = logging.getLogger(__name__)

_NAMED = 50  # rejected rows in the log
_BATCH = 1024  # rows
_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_WORD = re.compile(r"[^\W\d_]+")


def tabulate(folder: Path, config: IngestConfig, clip: ClipFormat, work: Path) -> pd.DataFrame:
    """Read every source below `folder` and return the table of its clips, sorted by path.

    Args:
        folder: The raw clips.
        config: How they are cut and read.
        clip: What the model sees of them.
        work: Folder that keeps what was found out about sources: the next run decodes only new bytes.

    Raises:
        MobiusError: If there are no sources of clips, or the listing or the captions cannot be read.
    """
    sources = find_media(folder)
    captions = read_captions(folder, sources, config)
    rows = chain(read_sources(folder, sources.paths, config, clip, work), sources.rejected())
    table = _as_table(rows).sort_values("path", ignore_index=True)
    table["captions"] = [captions.get(source, []) for source in table["source"]]
    table["caption"] = [next(iter(several), "") for several in table["captions"]]
    table["words"] = [len(_WORD.findall(caption)) for caption in table["caption"]]
    table["model_frames"] = [steps_within(seconds, clip.rate) for seconds in table["duration_s"]]
    table["split"] = [split_of(source, config.heldout_share) for source in table["source_sha256"]]
    table["clip_id"] = [
        clip_id(source, start, end)
        for source, start, end in zip(
            table["source_sha256"], table["start_frame"], table["end_frame"], strict=True
        )
    ]
    table["duplicate_of"] = _near_duplicates(table, config)
    _tell(table, folder)
    return table


def _as_table(rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    """Rows as columns, in batches: as dictionaries, 100,000 of them take several times the memory."""
    schema = pa.schema([(name, _TYPES[type(value)]) for name, value in ROW.items()])
    batches = []
    while batch := list(islice(rows, _BATCH)):
        batches.append(pa.RecordBatch.from_pylist(batch, schema))
    table: pd.DataFrame = pa.Table.from_batches(batches, schema).to_pandas()
    return table


def _near_duplicates(table: pd.DataFrame, config: IngestConfig) -> list[str]:
    """For each clip the path of the earlier one that it looks like, or ""."""
    if config.near_duplicate_bits is None:
        return [""] * len(table)
    first = first_alike(table["likeness"].tolist(), config.near_duplicate_bits)
    paths = table["path"].tolist()
    return [paths[kept] if kept != place else "" for place, kept in enumerate(first)]


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
    for row in rejected.head(_NAMED).itertuples():
        log.warning("Rejected: %s (%s)", row.path, row.reason)
    if len(rejected) > _NAMED:
        log.warning("… and %d more; the quarantine names them all.", len(rejected) - _NAMED)
