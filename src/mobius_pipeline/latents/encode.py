"""Bring the latents store up to date with a manifest: encode what is missing, and nothing else."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
from pyarrow import parquet
from torch import Tensor

from mobius_pipeline.clips.media.clip import load_clip
from mobius_pipeline.config import ClipFormat, ClipSize
from mobius_pipeline.files import write_json
from mobius_pipeline.latents.base import (
    TextEncoder,
    encoder_fingerprint,
    load_vae,
    posterior_moments,
    to_unit,
)
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.store import CURRENT, INDEX, STORE_VERSION, is_whole, write_shard
from mobius_pipeline.progress import Stage, stage

log = logging.getLogger(__name__)

_SIZE = ("frames", "height", "width")  # of a clip's bucket: the manifest's own are its file's
_ABOUT = ["clip_id", "path", "caption", "split", *_SIZE]
_WHERE = ["clip_id", "shard", "row"]
_TEXT_WHERE = ["caption", "text_shard", "text_row"]


def update_store(
    root: Path, manifest: pd.DataFrame, raw_clips: Path, base: Path, clip: ClipFormat, config: EncodeConfig
) -> None:
    """Encode the clips and captions of `manifest` that the store lacks, then publish a new index.

    Args:
        root: The store's root, created if missing.
        manifest: A row a clip, with `clip_id`, `path`, `caption`, `split`, `model_frames`, `height`, `width`.
        raw_clips: The folder that `path` is relative to.
        base: The T2I model in diffusers format.
        clip: How clips are decoded, and their buckets.
        config: Shard and batch sizes, device.
    """
    fingerprint = encoder_fingerprint(base, clip.model_dump(), STORE_VERSION)
    folder = root / fingerprint[:20]
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)

    manifest = manifest.assign(**_sizes(manifest, clip))
    clips = _encode_clips(folder, manifest, known[_WHERE], raw_clips, base, clip, config)
    texts = _encode_texts(folder, manifest, known[_TEXT_WHERE], base, config)

    rows = pd.concat([manifest[_ABOUT], _empty_caption()], ignore_index=True)
    index = rows.merge(clips, on="clip_id", how="left").merge(texts, on="caption", how="left")
    index = index.fillna({"shard": "", "row": -1}).astype({"row": "int64", "text_row": "int64"})
    partial = folder / f".{INDEX}.partial"
    table = pa.Table.from_pandas(index, schema=_schema(), preserve_index=False)
    parquet.write_table(table.replace_schema_metadata(None), partial)
    partial.replace(folder / INDEX)
    write_json(root / CURRENT, {"folder": folder.name, "fingerprint": fingerprint, "clip": clip.model_dump()})
    _sweep(root, folder, index)


def _sizes(manifest: pd.DataFrame, clip: ClipFormat) -> dict[str, list[int]]:
    """The columns of the size that each clip is encoded at; how many clips are in which bucket is told."""
    rows = manifest[["model_frames", "height", "width"]].itertuples(index=False, name=None)
    # a clip that is too short for all of them is refused when it is decoded, with its length
    sizes = [clip.size_for(*map(int, row)) or clip.sizes[0] for row in rows]
    if clip.buckets:
        for size in clip.sizes:
            name = f"{size.height} x {size.width} px x {size.frames} frames"
            log.info("Bucket %s: %d clips.", name, sizes.count(size))
    return {name: [getattr(size, name) for size in sizes] for name in _SIZE}


def _schema() -> pa.Schema:
    """The index's columns. Equal tables are to be equal files, and pandas notes where its types came from."""
    text = ("clip_id", "path", "caption", "split", "shard", "text_shard")
    return pa.schema(
        {**dict.fromkeys(text, pa.string()), **dict.fromkeys(("row", "text_row", *_SIZE), pa.int64())}
    )


def _known(folder: Path) -> pd.DataFrame:
    """The rows of the last index whose shards are whole."""
    if not (folder / INDEX).is_file():
        return pd.DataFrame({name: [] for name in dict.fromkeys([*_WHERE, *_TEXT_WHERE])})
    index = pd.read_parquet(folder / INDEX)
    whole = {name: is_whole(folder / name) for name in {*index["shard"], *index["text_shard"]} - {""}}
    for name in sorted(name for name, is_there in whole.items() if not is_there):
        log.warning("Shard %s is missing or damaged: what it held is encoded again.", name)
    index["shard"] = index["shard"].where(index["shard"].map(whole).fillna(False).astype(bool), None)
    index["text_shard"] = index["text_shard"].where(index["text_shard"].map(whole).astype(bool), None)
    return index


def _encode_clips(
    folder: Path,
    manifest: pd.DataFrame,
    known: pd.DataFrame,
    raw_clips: Path,
    base: Path,
    clip: ClipFormat,
    config: EncodeConfig,
) -> pd.DataFrame:
    """Return clip_id, shard, row of every clip of the manifest, encoding those that are not known."""
    known = known.dropna()
    known = known[known["clip_id"].isin(manifest["clip_id"])]
    missing = manifest[~manifest["clip_id"].isin(known["clip_id"])]
    log.info("Clips: %d already encoded, %d to encode.", len(known), len(missing))
    if missing.empty:
        return known
    vae = load_vae(base).to(config.device)
    new = []
    with stage("encode", len(missing), "clips") as bar:
        for size, chunk in _shards(missing, config.clips_per_shard):
            moments = [
                _encode_clip(vae, raw_clips / row["path"], clip.sized(size), config, bar) for row in chunk
            ]
            mean, logvar = (torch.stack(parts).half().cpu() for parts in zip(*moments, strict=True))
            shard = write_shard(folder, "shard", {"mean": mean, "logvar": logvar})
            new += [{"clip_id": row["clip_id"], "shard": shard, "row": i} for i, row in enumerate(chunk)]
    return pd.concat([known, pd.DataFrame(new)], ignore_index=True)


def _shards(missing: pd.DataFrame, clips: int) -> Iterator[tuple[ClipSize, list[dict[str, Any]]]]:
    """Rows of at most `clips` clips of one size."""
    for _, rows in missing.groupby(list(_SIZE), sort=True):
        size = ClipSize(**{name: int(rows[name].iloc[0]) for name in _SIZE})
        for chunk in _chunks(rows.to_dict("records"), clips):
            yield size, chunk


def _encode_clip(
    vae: Any, path: Path, clip: ClipFormat, config: EncodeConfig, bar: Stage
) -> tuple[Tensor, Tensor]:
    """Posterior moments of one clip's frames, each (F, C, h, w)."""
    frames = to_unit(torch.from_numpy(load_clip(path, clip))).to(config.device)
    parts = [posterior_moments(vae, batch) for batch in torch.split(frames, config.frames_per_batch)]
    bar.advance()
    mean, logvar = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return mean, logvar


def _encode_texts(
    folder: Path, manifest: pd.DataFrame, known: pd.DataFrame, base: Path, config: EncodeConfig
) -> pd.DataFrame:
    """Return caption, text_shard, text_row of every caption and the empty one, encoding the unknown."""
    captions = sorted({*manifest["caption"], ""})
    known = known.dropna().drop_duplicates("caption")
    known = known[known["caption"].isin(captions)]
    missing = sorted(set(captions) - set(known["caption"]))
    log.info("Captions: %d already encoded, %d to encode.", len(known), len(missing))
    if not missing:
        return known
    encode = TextEncoder(base, config.device)
    if cut := encode.too_long(missing):
        log.warning("%d captions are longer than the text encoder reads and are cut.", cut)
    embeddings = torch.cat([encode(chunk).half().cpu() for chunk in _chunks(missing, 64)])
    shard = write_shard(folder, "text", {"embedding": embeddings})
    new = pd.DataFrame({"caption": missing, "text_shard": shard, "text_row": range(len(missing))})
    return pd.concat([known, new], ignore_index=True)


def _empty_caption() -> pd.DataFrame:
    """The index row of the empty caption, which belongs to no clip."""
    return pd.DataFrame([{key: 0 if key in _SIZE else "" for key in _ABOUT}])


def _sweep(root: Path, folder: Path, index: pd.DataFrame) -> None:
    """Delete shards that nothing refers to any more, and say which stores of other encoders lie there."""
    used = {*index["shard"], *index["text_shard"]}
    unused = [path for path in folder.glob("*.safetensors") if path.name not in used]
    for path in unused:
        path.unlink()
    if unused:
        log.info("%d shards that no clip refers to any more were deleted.", len(unused))
    others = [path.name for path in root.iterdir() if path.is_dir() and path != folder]
    if others:
        log.info(
            "Stores of earlier encoders lie in %s: %s. Delete them if you do not need them.", root, others
        )


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
