"""Encode clips to the moments of the VAE's posterior, and captions to embeddings.

On one machine, `latents.local` encodes the clips. On a Ray cluster, a Daft dataflow decodes the clips and
passes them to the VAE. Captions are encoded in a Daft dataflow on both. Each clip and each batch of captions
is encoded independently, so both give the same bytes.
"""

import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import daft
import torch
from daft import DataType
from torch import Tensor

from mobius_pipeline.base_model.load import TextEncoder
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.decoded import Decoded
from mobius_pipeline.latents.encoder import ClipModel, Encoded, Setting, Wanted, bits, halves, torch_threads
from mobius_pipeline.latents.local import encode_locally
from mobius_pipeline.latents.placement import actors_of, devices_of
from mobius_pipeline.latents.retries import Attempts, attempts
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.runtime.daft_runner import EngineConfig, rows_of, use_engine

Row = dict[str, Any]

_ALONE = Lock()
_CLIPS_AT_ONCE = 4  # clips in a Daft batch: bounds the decoded frames in memory
_HALVES = DataType.tensor(DataType.uint16())  # the bits of fp16: Daft has no fp16 tensors
_MOMENTS = DataType.struct(
    {"mean": _HALVES, "logvar": _HALVES, "error": DataType.string(), "where": DataType.string()}
)
_EMBEDDED = DataType.struct({"embedding": _HALVES, "cut": DataType.int64()})


@dataclass(frozen=True)
class EncodedTexts:
    """The embeddings of a batch of captions.

    Attributes:
        batch: Index of the batch.
        embeddings: (n, L, D) fp16.
        cut: Number of captions that were truncated to L tokens.
    """

    batch: int
    embeddings: Tensor
    cut: int


@contextmanager
def _alone(threads: int) -> Iterator[None]:
    """Let one thread of a worker at a time load or run a model: loading is not thread-safe."""
    with _ALONE, torch_threads(threads):  # for the calling thread; a Ray worker would have one
        yield


class _Vae:
    """The VAE; a worker loads it when it encodes its first clip."""

    def __init__(self, setting: Setting, trying: Attempts) -> None:
        self._setting, self._trying = setting, trying

    @cached_property
    def _model(self) -> ClipModel:
        model = self._setting.model(self._setting.config.device)
        self._trying.of_the_run("the VAE", lambda: model.vae)  # if this fails, the run fails
        return model

    @daft.method.batch(return_dtype=_MOMENTS, batch_size=1)
    def moments(self, ids: daft.Series, pixels: daft.Series, errors: daft.Series) -> list[dict[str, Any]]:
        clips = zip(ids.to_pylist(), pixels.to_pylist(), errors.to_pylist(), strict=True)
        with _alone(self._setting.config.threads):
            return [self._of_one(*clip) for clip in clips]

    def _of_one(self, clip_id: str, clip: Pixels, error: str) -> dict[str, Any]:
        moments = None
        if not error:
            model = self._model
            moments, error = self._trying.one_at_a_time(clip_id, lambda: model.moments(clip))
        mean, logvar = moments or (None, None)
        return {"mean": mean, "logvar": logvar, "error": error, "where": _where(self._setting.config.device)}


def _where(device: str) -> str:
    import ray

    return f"{device} of {socket.gethostname()} (actor {ray.get_runtime_context().get_actor_id()})"


class _Text:
    """The text encoder; a worker loads it when it encodes its first captions."""

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
        return {"embedding": bits(embedding), "cut": encode.too_long(captions)}


def encode_clips(
    rows: Sequence[Row],
    raw_clips: Path,
    base: Path,
    clip: ClipFormat,
    config: EncodeConfig,
    engine: EngineConfig,
) -> Generator[Encoded]:
    """Encode clips and yield them in the order in which they finish.

    Args:
        rows: `clip_id`, `path`, `source_sha256`, `frames`, `height` and `width` (px) of each clip.
        raw_clips: The folder that `path` is relative to.
        base: The base (T2I or T2V) in diffusers format.
        clip: How clips are decoded; the sizes of the rows replace its own.
        config: Batch size, devices, retries.
        engine: The engine that runs the work.
    """
    setting = Setting(raw_clips, base, clip, config)
    wanted = [Wanted(*(row[name] for name in Wanted._fields)) for row in rows]
    if engine.name == "native":
        return encode_locally(wanted, setting)
    return _encode_on_ray(wanted, setting, engine)


def _encode_on_ray(wanted: Sequence[Wanted], setting: Setting, engine: EngineConfig) -> Generator[Encoded]:
    use_engine(engine)
    config = setting.config
    with attempts(config.retries, engine) as trying:
        decoded = daft.cls(Decoded, use_process=False)(setting.read, setting.limits)
        vae = _on_workers(_Vae, config, engine, len(wanted))(setting, trying)
        names = Wanted._fields
        flow = daft.from_pydict(
            {name: list(column) for name, column in zip(names, zip(*wanted, strict=True), strict=True)}
        )
        flow = flow.into_batches(_CLIPS_AT_ONCE)
        flow = flow.select("clip_id", decoded(*map(daft.col, names[1:])).alias("clip"))
        flow = flow.select(
            "clip_id",
            vae.moments(
                daft.col("clip_id"), daft.col("clip").get("pixels"), daft.col("clip").get("error")
            ).alias("moments"),
        )
        yield from map(_as_encoded, rows_of(flow))


def _as_encoded(row: Row) -> Encoded:
    found = row["moments"]
    moments = None if found["error"] else (found["mean"], found["logvar"])
    return Encoded(row["clip_id"], moments, found["error"], found["where"])


def encode_captions(
    batches: Sequence[list[str]], base: Path, config: EncodeConfig, engine: EngineConfig
) -> Iterator[EncodedTexts]:
    """Encode batches of captions; Ray yields them in the order in which they finish."""
    use_engine(engine)
    is_here = engine.name == "native"
    device = devices_of(config, torch.cuda.device_count)[0] if is_here else config.device
    with attempts(config.retries, engine) as trying:
        text = _on_workers(_Text, config, engine, len(batches))(base, device, torch.get_num_threads(), trying)
        flow = daft.from_pydict({"batch": list(range(len(batches))), "captions": list(batches)})
        flow = flow.into_batches(1).select("batch", text.embeddings(daft.col("captions")).alias("text"))
        for row in rows_of(flow):
            yield EncodedTexts(row["batch"], halves(row["text"]["embedding"]), row["text"]["cut"])


def _on_workers(model: type, config: EncodeConfig, engine: EngineConfig, most: int) -> Any:
    """Wrap `model` for Daft: one instance in this process, or at most `most` actors of a cluster."""
    if engine.name == "native":
        return daft.cls(model, use_process=False)
    import ray

    # Unlimited restarts: `Attempts` decides when to give up. With a limit of its own, Daft would hang.
    restarts = {"max_restarts": -1, "max_task_retries": -1}
    actors, gpus = actors_of(config, ray.cluster_resources())
    return daft.cls(model, gpus=gpus, max_concurrency=min(actors, most), ray_options=restarts)
