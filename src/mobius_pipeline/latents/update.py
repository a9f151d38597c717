"""Update the latents store from a manifest: encode only the clips and captions that it lacks."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import encoder_fingerprint
from mobius_pipeline.ingest.schema import TO_ENCODE
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.dataflow import encode_captions, encode_clips
from mobius_pipeline.latents.index import CLIPS, SIZE, TEXTS, Places, find, write_index
from mobius_pipeline.latents.orphans import log_orphans
from mobius_pipeline.latents.shard_builder import ClipShards, TextShards
from mobius_pipeline.latents.shards import is_intact, writing
from mobius_pipeline.latents.store import CURRENT, STORE_VERSION
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.daft_runner import NATIVE, EngineConfig
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import write_json
from mobius_pipeline.runtime.locks import only_writer
from mobius_pipeline.runtime.progress import stage
from mobius_pipeline.runtime.scratch import SCRATCHES, remove_leftovers
from mobius_pipeline.runtime.tables import check_frame

log = logging.getLogger(__name__)

CAPTIONS_PER_BATCH = 64  # captions that the text encoder encodes at once
NAMED = 5  # clips named in an error

Row = dict[str, Any]


def update_store(
    root: Path,
    manifest: pd.DataFrame,
    raw_clips: Path,
    base: BaseModel,
    clip: ClipFormat,
    config: EncodeConfig,
    engine: EngineConfig = NATIVE,
) -> None:
    """Encode the clips and captions of `manifest` that the store lacks, then publish a new index.

    A shard is usable once written: after a stop or a failed clip, the next run encodes only the rest.

    Args:
        root: The store's root, created if missing.
        manifest: One row per clip, with `clip_id`, `path`, `source_sha256`, `caption`, `split`,
            `model_frames`, `height`, `width`, `captions` and the other columns of `TO_ENCODE`.
        raw_clips: The folder that `path` is relative to.
        base: The base (T2I or T2V) in diffusers format.
        clip: How clips are decoded, and their buckets.
        config: Shard and batch sizes, device.
        engine: The engine that runs the work.

    Raises:
        MobiusError: If the manifest is invalid, clips cannot be decoded or encoded, the disk is full, another
            process writes the store, or there are fewer GPUs than requested.
    """
    check_frame(manifest, TO_ENCODE, "The manifest", "Run `kedro run --pipelines=validate`.")
    fingerprint = encoder_fingerprint(base.folder, clip.model_dump(), STORE_VERSION)
    folder = root / fingerprint[:20]
    folder.mkdir(parents=True, exist_ok=True)
    lock = root.with_name(f".{root.name}.lock")  # beside the store, because DVC hashes its content
    with only_writer(lock, f"The latents store {root}"):
        for left in (*root.glob(SCRATCHES), *folder.glob(SCRATCHES)):
            remove_leftovers(left)
        captions = pd.Series(captions_of(manifest), manifest.index)
        manifest = manifest.assign(**_sizes(manifest, clip), captions=captions)
        clips = _update_clips(folder, manifest, raw_clips, base, clip, config, engine)
        texts = _update_texts(folder, manifest, base, config, engine)
        write_index(folder, manifest, clips, texts)
        current = {"folder": folder.name, "fingerprint": fingerprint, "clip": clip.model_dump()}
        with writing(root / CURRENT):
            write_json(root / CURRENT, current)
        log_orphans(root, folder, config.remove_orphans)


def captions_of(manifest: pd.DataFrame) -> list[list[str]]:
    """Return the distinct captions of each clip, in their order."""
    return [list(dict.fromkeys(captions)) for captions in manifest["captions"]]


def _sizes(manifest: pd.DataFrame, clip: ClipFormat) -> dict[str, list[int]]:
    """Return the columns with the size that each clip is encoded at; log the number of clips per bucket."""
    rows = manifest[["model_frames", "height", "width"]].itertuples(index=False, name=None)
    # A clip too short for every size is refused when it is decoded; that error states its length.
    sizes = [clip.size_for(*map(int, row)) or clip.sizes[0] for row in rows]
    if clip.buckets:
        for size in clip.sizes:
            name = f"{size.height} x {size.width} px x {size.frames} frames"
            log.info("Bucket %s: %d clips.", name, sizes.count(size))
    return {name: [getattr(size, name) for size in sizes] for name in SIZE}


def _update_clips(
    folder: Path,
    manifest: pd.DataFrame,
    raw_clips: Path,
    base: BaseModel,
    clip: ClipFormat,
    config: EncodeConfig,
    engine: EngineConfig,
) -> Places:
    """Encode the clips that the store lacks, and return the places of all clips of the manifest.

    Raises:
        MobiusError: If some cannot be decoded or encoded; all others are encoded nevertheless.
    """
    places = find(folder, CLIPS, manifest["clip_id"], _usable(folder))
    missing = manifest[~manifest["clip_id"].isin(places.keys())]
    log.info("Clips: %d already encoded, %d to encode.", len(places), len(missing))
    if missing.empty:
        return places
    groups = list(_of_a_shard(missing, config.clips_per_shard))
    filling = ClipShards(folder, [[row["clip_id"] for row in group] for group in groups])
    rows = {row["clip_id"]: row for group in groups for row in group}
    errors, done, began = {}, Counter[str](), perf_counter()
    encoding = encode_clips(list(rows.values()), raw_clips, base.folder, clip, config, engine)
    with stage("encode", len(rows), "clips") as bar, closing(encoding):
        for encoded in encoding:
            if encoded.error:
                errors[encoded.clip_id] = encoded.error
                log.warning("%s cannot be encoded: %s", rows[encoded.clip_id]["path"], encoded.error)
            else:
                done[encoded.where] += 1
            places |= filling.take(encoded)
            bar.advance()
    shares = ", ".join(f"{clips} on {where}" for where, clips in sorted(done.items()))
    log.info("Encoded %d clips in %.1f s: %s.", done.total(), perf_counter() - began, shares or "none")
    if errors:
        failed = {row["path"]: errors[clip_id] for clip_id, row in rows.items() if clip_id in errors}
        raise MobiusError(_cannot_be_encoded(raw_clips, failed))
    return places


def _of_a_shard(missing: pd.DataFrame, clips: int) -> Iterator[list[Row]]:
    """Yield groups of at most `clips` rows with one size, one group per shard."""
    for _, rows in missing.groupby(list(SIZE), sort=True):
        yield from _chunks(rows.to_dict("records"), clips)


def _cannot_be_encoded(raw_clips: Path, failed: dict[str, str]) -> str:
    named = "; ".join(f"{path} ({reason})" for path, reason in list(failed.items())[:NAMED])
    end = " ..." if len(failed) > NAMED else "."
    return (
        f"{len(failed)} clips in {raw_clips} cannot be encoded: {named}{end} All others are encoded. If "
        "files changed, restore them, or ingest the new ones with `kedro run --pipelines=ingest,validate`. "
        "If memory is short, lower `encode.frames_per_batch` or `encode.processes`. To leave a clip out, "
        "remove it from that folder or its listing, and run `kedro run --pipelines=ingest,validate`. Then "
        "run `encode` again: it encodes only these clips."
    )


def _update_texts(
    folder: Path, manifest: pd.DataFrame, base: BaseModel, config: EncodeConfig, engine: EngineConfig
) -> Places:
    """Encode the captions that the store lacks, and return the places of all captions and the empty one."""
    captions = {"", *manifest["captions"].explode()}
    places = find(folder, TEXTS, captions, _usable(folder))
    missing = sorted(captions - places.keys())
    log.info("Captions: %d already encoded, %d to encode.", len(places), len(missing))
    if not missing:
        return places
    cut, waiting = 0, TextShards(folder, list(_chunks(missing, CAPTIONS_PER_BATCH)))
    for encoded in encode_captions(waiting.batches, base.folder, config, engine):
        places |= waiting.take(encoded)
        cut += encoded.cut
    if cut:
        log.warning("%d captions are longer than the text encoder allows and are truncated.", cut)
    return places


def _usable(folder: Path) -> Callable[[str], bool]:
    """Return a predicate that tells whether a shard is intact, and logs a warning if it is not."""

    def usable(shard: str) -> bool:
        if is_intact(folder / shard):
            return True
        log.warning("Shard %s is missing or damaged: its content is encoded again.", shard)
        return False

    return usable


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
