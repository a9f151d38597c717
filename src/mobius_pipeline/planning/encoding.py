"""Predict the bytes of a latents store, and list the operations of the VAE and the text encoder.

As for a training, the operations are listed on fake tensors: no weights are read, nothing is computed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mobius_pipeline.base_model.load import posterior_moments
from mobius_pipeline.ingest.split import TRAIN
from mobius_pipeline.latents.index import CLIPS, TEXTS, placed, write_index
from mobius_pipeline.latents.shard_builder import BATCHES_PER_SHARD
from mobius_pipeline.latents.shards import write_shard
from mobius_pipeline.latents.update import CAPTIONS_PER_BATCH
from mobius_pipeline.media.clip_format import ClipSize
from mobius_pipeline.planning.operations import Operations
from mobius_pipeline.planning.predict import fake_weights
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import read_json

CAPTIONS_PER_SHARD = CAPTIONS_PER_BATCH * BATCHES_PER_SHARD
HALF_BYTES = 2  # bytes of a float16: the type of the store's tensors
SAMPLED = 2048  # rows of the index that is written to measure the bytes of a row
CAPTION_LETTERS = 100  # characters of a made-up caption in that index


@dataclass(frozen=True)
class StoreFormat:
    """Sizes that determine the bytes of a latents store.

    Attributes:
        size: Size of a clip: frames, height and width in px.
        channels: Channels of a latent.
        scale: Pixels per latent cell, in height and in width.
        tokens: Length of a text embedding.
        text_width: Width of a text embedding.
        captions_per_clip: Distinct captions per clip, on average.
        clips_per_shard: Clips per shard, as `encode.clips_per_shard`.
    """

    size: ClipSize
    channels: int
    scale: int
    tokens: int
    text_width: int
    captions_per_clip: float
    clips_per_shard: int

    @property
    def latents_bytes(self) -> int:
        """Bytes of a clip's latents: mean and log-variance, each (F, C, h, w) float16."""
        cells = (self.size.height // self.scale) * (self.size.width // self.scale)
        return 2 * HALF_BYTES * self.size.frames * self.channels * cells

    @property
    def caption_bytes(self) -> int:
        """Bytes of a caption's embedding, (L, D) float16."""
        return HALF_BYTES * self.tokens * self.text_width


@dataclass(frozen=True)
class StoreBytes:
    """Bytes of a store's latents, text embeddings and overhead (headers, index), and its number of shards."""

    latents: int
    captions: int
    overhead: int
    shards: int

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return self.latents + self.captions + self.overhead


def store_bytes(clips: int, form: StoreFormat) -> StoreBytes:
    """Return the bytes of a store of `clips` clips of one size.

    The bytes of tensors follow from shapes and types. The overhead (shard headers with the names of rows, and
    the index) is measured on a small store, which is written without tensor elements.
    """
    captions = round(clips * form.captions_per_clip) + 1  # and the empty caption
    of_clips, of_texts = ceil(clips / form.clips_per_shard), ceil(captions / CAPTIONS_PER_SHARD)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        header = _header(place, CLIPS, _ids(min(clips, form.clips_per_shard)), ("mean", "logvar"))
        text_header = _header(place, TEXTS, _captions(min(captions, CAPTIONS_PER_SHARD)), ("embedding",))
        index = _index_bytes(place, min(clips, SAMPLED), form) * max(1, clips / SAMPLED)
    return StoreBytes(
        latents=clips * form.latents_bytes,
        captions=captions * form.caption_bytes,
        overhead=round(of_clips * header + of_texts * text_header + index),
        shards=of_clips + of_texts,
    )


def _ids(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def _captions(count: int) -> list[str]:
    return [(name * 2)[:CAPTION_LETTERS] for name in _ids(count)]


def _header(folder: Path, kind: str, names: list[str], tensors: tuple[str, ...]) -> int:
    empty = torch.empty(len(names), 0, dtype=torch.float16)
    return (folder / write_shard(folder, kind, names, dict.fromkeys(tensors, empty))).stat().st_size


def _index_bytes(folder: Path, clips: int, form: StoreFormat) -> int:
    ids = _ids(clips)
    captions = _captions(clips)
    rows = pd.DataFrame(
        {
            "clip_id": ids,
            "path": [f"clips/{number:08}.mp4" for number in range(clips)],
            "split": TRAIN,
            "captions": [[caption] for caption in captions],
            **form.size.model_dump(),
        }
    )
    name = f"-{'0' * 20}.safetensors"
    write_index(folder, rows, placed(CLIPS + name, ids), placed(TEXTS + name, ["", *captions]))
    return (folder / "index.parquet").stat().st_size


def list_clip(folder: Path, size: ClipSize, frames_per_batch: int, operations: Operations) -> None:
    """List the operations of the VAE in `folder` on a clip, into `operations`.

    Raises:
        MobiusError: If there is no configuration of an `AutoencoderKL`.
    """
    config = _config(folder / "vae", "AutoencoderKL")
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(config).eval()

    def encode(frames: Tensor) -> None:
        for batch in torch.split(frames, frames_per_batch):
            for moments in posterior_moments(vae, batch):
                moments.half()

    _listed(vae, encode, lambda: torch.zeros(size.frames, 3, size.height, size.width), operations)


def list_captions(folder: Path, tokens: int, operations: Operations) -> int:
    """List the operations of the text encoder in `folder` on a batch of captions; return the batch size.

    Raises:
        MobiusError: If there is no configuration of a text encoder of transformers.
    """
    import transformers

    place = folder / "text_encoder"
    name = next(iter(_config(place, None).get("architectures") or ()), "")
    made = getattr(transformers, name, None)
    if not isinstance(made, type):
        raise MobiusError(f"{place}/config.json: architectures has {name!r}, not a class of transformers.")
    with torch.device("meta"):
        encoder: nn.Module = made(transformers.AutoConfig.from_pretrained(place)).eval()

    @torch.no_grad()
    def encode(ids: Tensor) -> None:
        encoder(ids).last_hidden_state.half()

    _listed(encoder, encode, lambda: torch.zeros(CAPTIONS_PER_BATCH, tokens, dtype=torch.int64), operations)
    return CAPTIONS_PER_BATCH


def _listed(
    model: nn.Module, run: Callable[[Tensor], None], given: Callable[[], Tensor], operations: Operations
) -> None:
    with FakeTensorMode():
        fake_weights(model)
        inputs = given()
        with operations:
            run(inputs)


def _config(folder: Path, of_class: str | None) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise MobiusError(
            f"Cannot read {path} ({error}). To plan an encoding, name the folder of a model in diffusers' "
            "layout with a VAE and a text encoder."
        ) from error
    found = config.get("_class_name") if isinstance(config, dict) else None
    if not isinstance(config, dict) or (of_class and found != of_class):
        raise MobiusError(
            f"{path} is not the configuration of a model that can encode: its class is {found}."
        )
    return config
