"""Clips to posterior moments, and captions to embeddings, as Daft dataflows: decoding feeds the VAE.

What a clip or a batch of captions comes to depends on nothing beside it, so both engines give the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import daft
import numpy as np
import numpy.typing as npt
import torch
from daft import DataType
from diffusers import AutoencoderKL
from torch import Tensor

from mobius_pipeline.base_model.load import TextEncoder, load_vae, posterior_moments, to_unit
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.ingested_source import read_sized
from mobius_pipeline.latents.retries import Attempts, attempt, attempts
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.media.isolated_worker import Limits, Workers
from mobius_pipeline.runtime.daft_runner import EngineConfig, rows_of, use_engine

Row = dict[str, Any]

_ALONE = Lock()
_CLIPS_AT_ONCE = 4  # that a worker hands on together: what bounds the decoded frames in memory
_NOTHING = np.zeros((0, 0, 0, 3), np.uint8)  # Daft has no column of tensors without any
_HALVES = DataType.tensor(DataType.uint16())  # the bits of fp16, which Daft has no tensors of
_DECODED = DataType.struct({"pixels": DataType.tensor(DataType.uint8()), "error": DataType.string()})
_MOMENTS = DataType.struct({"mean": _HALVES, "logvar": _HALVES, "error": DataType.string()})
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


@contextmanager
def _alone(threads: int) -> Iterator[None]:
    """One thread of a worker at a time loads a model (which no library does safely otherwise) or uses it."""
    with _ALONE:
        torch.set_num_threads(threads)  # of the calling thread; a worker of Ray's would have one
        yield


class _Decoded:
    """Clips, decoded in watched processes: one that dies of a file takes nothing with it."""

    def __init__(self, read: Callable[[Any], Pixels], limits: Limits) -> None:
        self._read, self._retries = Workers(read, limits), limits.retries

    @daft.method(return_dtype=_DECODED)
    def __call__(self, path: str, sha256: str, frames: int, height: int, width: int) -> dict[str, Any]:
        wanted = (path, sha256, frames, height, width)
        pixels, error = attempt(lambda: self._read(wanted), self._retries)
        return {"pixels": _NOTHING if pixels is None else pixels, "error": error}


class _Vae:
    """The VAE, loaded by a worker when its first clip comes."""

    def __init__(self, base: Path, config: EncodeConfig, threads: int, trying: Attempts) -> None:
        self._base, self._config, self._threads, self._trying = base, config, threads, trying

    @cached_property
    def _vae(self) -> AutoencoderKL:
        return self._trying.of_the_run("the VAE", lambda: load_vae(self._base).to(self._config.device))

    @daft.method.batch(return_dtype=_MOMENTS, batch_size=1)
    def moments(self, ids: daft.Series, pixels: daft.Series, errors: daft.Series) -> list[dict[str, Any]]:
        clips = zip(ids.to_pylist(), pixels.to_pylist(), errors.to_pylist(), strict=True)
        with _alone(self._threads):
            return [self._of_one(*clip) for clip in clips]

    def _of_one(self, clip_id: str, clip: npt.NDArray[np.uint8], error: str) -> dict[str, Any]:
        if error:
            return {"mean": None, "logvar": None, "error": error}
        vae = self._vae  # that it cannot be loaded is no clip's failure
        moments, error = self._trying.one_at_a_time(clip_id, lambda: self._encoded(vae, clip))
        return {"mean": None, "logvar": None, **(moments or {}), "error": error}

    def _encoded(self, vae: AutoencoderKL, clip: npt.NDArray[np.uint8]) -> dict[str, Any]:
        # A clip at a time: which others were beside it would show in the last bits.
        frames = to_unit(torch.from_numpy(clip.copy())).to(self._config.device)
        batches = torch.split(frames, self._config.frames_per_batch)
        parts = [posterior_moments(vae, batch) for batch in batches]
        mean, logvar = (_bits(torch.cat(tensors)) for tensors in zip(*parts, strict=True))
        return {"mean": mean, "logvar": logvar}


class _Text:
    """The text encoder, loaded by a worker when its first captions come."""

    def __init__(self, base: Path, device: str, threads: int, trying: Attempts) -> None:
        self._base, self._device, self._threads, self._trying = base, device, threads, trying

    @cached_property
    def _encode(self) -> TextEncoder:
        return self._trying.of_the_run("the text encoder", lambda: TextEncoder(self._base, self._device))

    @daft.method.batch(return_dtype=_EMBEDDED, batch_size=1)
    def embeddings(self, captions: daft.Series) -> list[dict[str, Any]]:
        with _alone(self._threads):
            return [self._of_one(batch) for batch in captions.to_pylist()]

    def _of_one(self, captions: list[str]) -> dict[str, Any]:
        encode = self._encode
        embedding = self._trying.of_the_run(f"the captions from {captions[0]!r} on", lambda: encode(captions))
        return {"embedding": _bits(embedding), "cut": encode.too_long(captions)}


def encode_clips(
    rows: Sequence[Row],
    raw_clips: Path,
    base: Path,
    clip: ClipFormat,
    config: EncodeConfig,
    engine: EngineConfig,
) -> Iterator[Encoded]:
    """Encode clips; on Ray they come in whatever order they are done.

    Args:
        rows: `clip_id`, `path`, `source_sha256` and the size, in pixels and frames, of each.
        raw_clips: The folder that `path` is relative to.
        base: The T2I model in diffusers format.
        clip: How clips are decoded; the rows' size counts.
        config: Batch size, device, retries.
        engine: On which it is done.
    """
    use_engine(engine)
    with attempts(config.retries, engine) as trying:
        read = partial(read_sized, raw_clips, clip)
        limits = Limits(config.seconds_per_file, config.memory_mib_per_file, config.retries, "encode")
        decoded = daft.cls(_Decoded, use_process=False)(read, limits)
        threads = torch.get_num_threads()
        vae = _on_workers(_Vae, config, engine)(base, config, threads, trying)
        columns = ("path", "source_sha256", "frames", "height", "width")
        flow = daft.from_pydict({name: [row[name] for row in rows] for name in ("clip_id", *columns)})
        flow = flow.into_batches(_CLIPS_AT_ONCE)
        flow = flow.select("clip_id", decoded(*map(daft.col, columns)).alias("clip"))
        flow = flow.select(
            "clip_id",
            vae.moments(
                daft.col("clip_id"), daft.col("clip").get("pixels"), daft.col("clip").get("error")
            ).alias("moments"),
        )
        yield from map(_as_encoded, rows_of(flow))


def _as_encoded(row: Row) -> Encoded:
    found = row["moments"]
    if found["error"]:
        return Encoded(row["clip_id"], None, found["error"])
    return Encoded(row["clip_id"], (_halves(found["mean"]), _halves(found["logvar"])), "")


def encode_captions(
    batches: Sequence[list[str]], base: Path, config: EncodeConfig, engine: EngineConfig
) -> Iterator[EncodedTexts]:
    """Encode batches of captions; on Ray they come in whatever order they are done."""
    use_engine(engine)
    with attempts(config.retries, engine) as trying:
        text = _on_workers(_Text, config, engine)(base, config.device, torch.get_num_threads(), trying)
        flow = daft.from_pydict({"batch": list(range(len(batches))), "captions": list(batches)})
        flow = flow.into_batches(1).select("batch", text.embeddings(daft.col("captions")).alias("text"))
        for row in rows_of(flow):
            yield EncodedTexts(row["batch"], _halves(row["text"]["embedding"]), row["text"]["cut"])


def _on_workers(model: type, config: EncodeConfig, engine: EngineConfig) -> Any:
    """A class whose instances Daft keeps: one in this process, or on a cluster one a GPU (one without)."""
    if engine.name == "native":
        return daft.cls(model, use_process=False)
    # Restarted as often as it dies: `Attempts` has the last word. Daft's own limit ends in waiting for ever.
    restarts = {"max_restarts": -1, "max_task_retries": -1}
    concurrency = max(config.gpus, 1)
    return daft.cls(model, gpus=min(config.gpus, 1), max_concurrency=concurrency, ray_options=restarts)


def _bits(tensor: Tensor) -> npt.NDArray[np.uint16]:
    bits: npt.NDArray[np.uint16] = tensor.half().cpu().numpy().view(np.uint16)
    return bits


def _halves(bits: npt.NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(bits.view(np.float16).copy())
