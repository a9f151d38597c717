"""A folder of media files as a table: one Daft dataflow, one row a clip.

| column | what it holds |
| --- | --- |
| clip_id | SHA-256 of (media bytes, start frame, end frame) |
| source_sha256 | SHA-256 of the media file |
| path | relative to the folder, POSIX |
| caption | "" where there is none |
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
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from mobius_pipeline.clips.captions import TABLE, read_captions
from mobius_pipeline.clips.media import MediaError, Probe, probe, steps_within
from mobius_pipeline.config import ClipFormat, Config
from mobius_pipeline.errors import MobiusError
from mobius_pipeline.files import sha256
from mobius_pipeline.progress import stage

log = logging.getLogger(__name__)

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp", ".apng", ".png"}
_BESIDE = {".txt", ".csv", ".json"}  # captions and provenance: no clips, and nothing to wonder about
_UNKNOWN = asdict(Probe(width=0, height=0, frames=0, fps=0.0, duration_s=0.0, container="", codec=""))


class IngestConfig(Config):
    """`conf/<env>/parameters_ingest.yml`."""

    heldout_share: float = Field(gt=0, lt=1, description="of the sources, for evaluation")
    files_per_batch: int = Field(gt=0, description="files that a worker takes at once")


def find_media(folder: Path) -> list[str]:
    """The media files below `folder`, relative and sorted; other files are counted in the log.

    Raises:
        MobiusError: If there are none.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    media = sorted(path.relative_to(folder).as_posix() for path in files if path.suffix.lower() in SUFFIXES)
    other = Counter(
        path.suffix.lower() or "(none)" for path in files if path.suffix.lower() not in SUFFIXES | _BESIDE
    )
    if other:
        log.warning("Files that are no media by their suffix, passed over: %s.", dict(other))
    if not media:
        raise MobiusError(
            f"There are no clips in {folder}. Put {', '.join(sorted(SUFFIXES))} files there, or name another "
            "folder in `clips` of conf/base/globals.yml."
        )
    return media


def describe(folder: Path, path: str) -> dict[str, Any]:
    """What one file holds; a file that cannot be read becomes a rejected row, never an error."""
    media = folder / path
    try:
        identity = {"source_sha256": sha256(media), "bytes": media.stat().st_size}
        return {"path": path, **identity, **asdict(probe(media)), "status": "ok", "reason": ""}
    except MediaError as error:
        return {"path": path, **identity, **_UNKNOWN, "status": "rejected", "reason": str(error)}
    except OSError as error:  # no permission, a broken link, a failing disk
        reason = f"cannot be read: {error.strerror}"
        return {
            "path": path,
            "source_sha256": "",
            "bytes": 0,
            **_UNKNOWN,
            "status": "rejected",
            "reason": reason,
        }


def tabulate(folder: Path, config: IngestConfig, clip: ClipFormat) -> pd.DataFrame:
    """Probe every media file below `folder` and return the table of clips, sorted by path.

    Raises:
        MobiusError: If there are no media files, or the captions cannot be read.
    """
    paths = find_media(folder)
    captions = read_captions(folder, paths)
    table = pd.DataFrame(_probe_all(folder, paths, config)).sort_values("path", ignore_index=True)
    table["caption"] = [captions.get(path, "") for path in table["path"]]
    table["start_frame"], table["end_frame"] = 0, table["frames"]
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


def _probe_all(folder: Path, paths: list[str], config: IngestConfig) -> list[dict[str, Any]]:
    """Run `describe` over all files in a Daft dataflow; rows come in whatever order they are done."""
    import daft
    from daft import DataType

    fields = {
        "path": DataType.string(),
        "source_sha256": DataType.string(),
        "bytes": DataType.int64(),
        **{name: _daft_type(value) for name, value in _UNKNOWN.items()},
        "status": DataType.string(),
        "reason": DataType.string(),
    }

    # A decoder that crashes or leaks must not take the run with it: files are read in processes of their own.
    @daft.func(return_dtype=DataType.struct(fields), use_process=True)
    def probed(path: str) -> dict[str, Any]:
        return describe(folder, path)

    flow = daft.from_pydict({"path": paths}).into_batches(config.files_per_batch)
    flow = flow.select(probed(daft.col("path")).alias("row"))
    rows = []
    with stage("ingest", len(paths), "files") as bar:
        for row in flow.iter_rows():
            rows.append(row["row"])
            bar.advance()
    return rows


def _daft_type(value: object) -> Any:
    from daft import DataType

    return {int: DataType.int64(), float: DataType.float64(), str: DataType.string()}[type(value)]


def _tell(table: pd.DataFrame, folder: Path) -> None:
    rejected = table[table["status"] == "rejected"]
    uncaptioned = int((table["caption"] == "").sum())
    log.info(
        "%d files in %s: %d read, %d rejected, %d without a caption in %s or a text file beside them.",
        len(table),
        folder,
        len(table) - len(rejected),
        len(rejected),
        uncaptioned,
        TABLE,
    )
    for row in rejected.itertuples():
        log.warning("Rejected: %s (%s)", row.path, row.reason)
