"""Clips to posterior moments, and captions to embeddings, as Daft dataflows: decoding feeds the VAE.

What a clip or a batch of captions comes to depends on nothing beside it, so both engines give the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import daft
import numpy as np
import numpy.typing as npt
import torch
from daft import DataType
from torch import Tensor

from mobius_pipeline.clips.media.decode import MediaError
from mobius_pipeline.config import ClipFormat, ClipSize
from mobius_pipeline.engine import use_engine
from mobius_pipeline.latents.base import TextEncoder, load_vae, posterior_moments, to_unit
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.source import read_clip

Row = dict[str, Any]

_CLIPS_AT_ONCE = 4  # that a worker hands on together: what bounds the decoded frames in memory
_HALVES = DataType.tensor(DataType.uint16())  # the bits of fp16, which Daft has no tensors of
_DECODED = DataType.struct({"pixels": DataType.tensor(DataType.uint8()), "error": DataType.string()})
_MOMENTS = DataType.struct({"mean": _HALVES, "logvar": _HALVES})
_EMBEDDED = DataType.struct({"embedding": _HALVES, "cut": DataType.int64()})


@dataclass(frozen=True)
class Encoded:
    """A clip's posterior mean and log-variance, (F, C, h, w) fp16, or why there are none."""

    clip_id: str
    moments: tuple[Tensor, Tensor] | None
    error: str


@dataclass(frozen=True)
class EncodedTexts:
    """A batch's place, its embeddings (n, L, D) fp16, and how many of its captions were cut at L tokens."""

    batch: int
    embeddings: Tensor
    cut: int


class _Vae:
    """The VAE, loaded once a worker."""

    def __init__(self, base: Path, device: str, frames_per_batch: int, threads: int) -> None:
        torch.set_num_threads(threads)  # Ray's workers would take one
        self._vae = load_vae(base).to(device)
        self._device, self._frames_per_batch = device, frames_per_batch

    @daft.method.batch(return_dtype=_MOMENTS, batch_size=1)
    def moments(self, pixels: daft.Series) -> list[dict[str, Any] | None]:
        return [None if clip is None else self._of_one(clip) for clip in pixels.to_pylist()]

    def _of_one(self, clip: npt.NDArray[np.uint8]) -> dict[str, Any]:
        # A clip at a time: which others were beside it would show in the last bits.
        frames = to_unit(torch.from_numpy(clip.copy())).to(self._device)
        parts = [posterior_moments(self._vae, batch) for batch in torch.split(frames, self._frames_per_batch)]
        mean, logvar = (_bits(torch.cat(tensors)) for tensors in zip(*parts, strict=True))
        return {"mean": mean, "logvar": logvar}


class _Text:
    """The text encoder, loaded once a worker."""

    def __init__(self, base: Path, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._encode = TextEncoder(base, device)

    @daft.method.batch(return_dtype=_EMBEDDED, batch_size=1)
    def embeddings(self, captions: daft.Series) -> list[dict[str, Any]]:
        return [
            {"embedding": _bits(self._encode(batch)), "cut": self._encode.too_long(batch)}
            for batch in captions.to_pylist()
        ]


def encode_clips(
    rows: Sequence[Row], raw_clips: Path, base: Path, clip: ClipFormat, config: EncodeConfig
) -> Iterator[Encoded]:
    """Encode clips; on Ray they come in whatever order they are done.

    Args:
        rows: `clip_id`, `path`, `source_sha256` and the size, in pixels and frames, of each.
        raw_clips: The folder that `path` is relative to.
        base: The T2I model in diffusers format.
        clip: How clips are decoded; the rows' size counts.
        config: Batch size, device, engine.
    """

    @daft.func(return_dtype=_DECODED)
    def decoded(path: str, sha256: str, frames: int, height: int, width: int) -> dict[str, Any]:
        size = ClipSize(frames=frames, height=height, width=width)
        try:
            return {"pixels": read_clip(raw_clips, path, sha256, clip.sized(size)), "error": ""}
        except MediaError as error:
            return {"pixels": None, "error": str(error)}

    vae = _on_workers(_Vae, config)(base, config.device, config.frames_per_batch, torch.get_num_threads())
    columns = ("path", "source_sha256", "frames", "height", "width")
    flow = _flow({name: [row[name] for row in rows] for name in ("clip_id", *columns)}, config)
    flow = flow.into_batches(_CLIPS_AT_ONCE)
    flow = flow.select("clip_id", decoded(*map(daft.col, columns)).alias("clip"))
    flow = flow.select(
        "clip_id",
        daft.col("clip").get("error").alias("error"),
        vae.moments(daft.col("clip").get("pixels")).alias("moments"),
    )
    for row in flow.iter_rows():
        found = row["moments"]
        moments = found and (_halves(found["mean"]), _halves(found["logvar"]))
        yield Encoded(row["clip_id"], moments, row["error"])


def encode_captions(batches: Sequence[list[str]], base: Path, config: EncodeConfig) -> Iterator[EncodedTexts]:
    """Encode batches of captions; on Ray they come in whatever order they are done."""
    text = _on_workers(_Text, config)(base, config.device, torch.get_num_threads())
    flow = _flow({"batch": list(range(len(batches))), "captions": list(batches)}, config).into_batches(1)
    flow = flow.select("batch", text.embeddings(daft.col("captions")).alias("text"))
    for row in flow.iter_rows():
        yield EncodedTexts(row["batch"], _halves(row["text"]["embedding"]), row["text"]["cut"])


def _on_workers(model: type, config: EncodeConfig) -> Any:
    """A class of which Daft keeps an instance a GPU, or one."""
    return daft.cls(model, gpus=min(config.gpus, 1), max_concurrency=max(config.gpus, 1), use_process=False)


def _bits(tensor: Tensor) -> npt.NDArray[np.uint16]:
    bits: npt.NDArray[np.uint16] = tensor.half().cpu().numpy().view(np.uint16)
    return bits


def _halves(bits: npt.NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(bits.view(np.float16).copy())


def _flow(columns: Row, config: EncodeConfig) -> Any:
    use_engine(config.engine, config.ray_address)
    return daft.from_pydict(columns)
