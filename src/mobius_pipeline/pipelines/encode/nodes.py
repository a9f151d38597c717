"""Node of the `encode` pipeline."""

from pathlib import Path

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.ingest.clip_table import Manifest
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.runtime.daft_runner import EngineConfig


def encode_clips(
    manifest: Manifest,
    raw_clips: Path,
    base_model: BaseModel,
    encode: EncodeConfig,
    clip: ClipFormat,
    engine: EngineConfig,
    latents_store: Path,
) -> LatentsStore:
    """Update the latents store in place to hold the manifest's clips; those that it has are kept."""
    from mobius_pipeline.latents.update import update_store

    update_store(latents_store, manifest.rows, raw_clips, base_model, clip, encode, engine)
    return LatentsStore(latents_store)
