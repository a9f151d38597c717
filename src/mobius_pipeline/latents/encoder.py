"""Clips to the moments of the VAE's posterior, one after the other, while the next ones are decoded.

What a clip comes to depends on nothing beside it. It does depend on the number of threads, by which sums are
split: that is a setting of its own, the same for every process.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from mobius_pipeline.base_model.load import load_vae, posterior_moments, to_unit
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.ingested_source import read_sized
from mobius_pipeline.latents.retries import attempt
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.media.isolated_worker import WorkerLimits, Workers

Bits = npt.NDArray[np.uint16]  # of fp16, which neither Daft has tensors of nor a pipe should carry as torch's


class Wanted(NamedTuple):
    """A clip to encode: its size is in frames and px."""

    clip_id: str
    path: str
    source_sha256: str
    frames: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """What the VAE's work is proportional to."""
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class Encoded:
    """A clip's posterior mean and log-variance, (F, C, h, w) each, or why there are none; where that was."""

    clip_id: str
    moments: tuple[Bits, Bits] | None
    error: str
    where: str


def bits(tensor: Tensor) -> Bits:
    """A tensor in fp16, as bits."""
    found: Bits = tensor.half().cpu().numpy().view(np.uint16)
    return found


def halves(found: Bits) -> Tensor:
    """The fp16 tensor of such bits."""
    return torch.from_numpy(found.view(np.float16).copy())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Have torch use so many threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ClipModel:
    """A VAE on a device, loaded when it is first asked for."""

    def __init__(self, base: Path, config: EncodeConfig, device: str) -> None:
        """Name the base model, `frames_per_batch` and `threads`, and where the VAE runs."""
        self._base, self._config, self.device = base, config, device

    @cached_property
    def vae(self) -> AutoencoderKL:
        """The VAE."""
        return load_vae(self._base).to(self.device)

    def moments(self, clip: Pixels) -> tuple[Bits, Bits]:
        """Posterior mean and log-variance of a clip, uint8 (F, H, W, 3): (F, C, h, w) each."""
        with torch_threads(self._config.threads):
            # A clip at a time: which others were beside it would show in the last bits.
            frames = to_unit(torch.from_numpy(clip.copy())).to(self.device)
            batches = torch.split(frames, self._config.frames_per_batch)
            parts = [posterior_moments(self.vae, batch) for batch in batches]
            mean, logvar = (bits(torch.cat(tensors)) for tensors in zip(*parts, strict=True))
        return mean, logvar


@dataclass(frozen=True)
class Setting:
    """What every process needs to encode clips; it is sent to them."""

    raw_clips: Path
    base: Path
    clip: ClipFormat
    config: EncodeConfig

    @property
    def limits(self) -> WorkerLimits:
        """Of a process that decodes."""
        config = self.config
        return WorkerLimits(config.seconds_per_file, config.memory_mib_per_file, config.retries, "encode")

    @property
    def read(self) -> Callable[[tuple[str, str, int, int, int]], Pixels]:
        """Decodes a clip; for another process too."""
        return partial(read_sized, self.raw_clips, self.clip)

    def model(self, device: str) -> ClipModel:
        """The VAE of a process."""
        return ClipModel(self.base, self.config, device)


class Encoder:
    """Encodes clips in the order in which they are begun."""

    def __init__(self, setting: Setting, device: str, decoders: int, where: str) -> None:
        """Have one model on `device`, and so many watched processes that decode for it."""
        self._model, self._retries, self._where = setting.model(device), setting.config.retries, where
        self._read = Workers(setting.read, setting.limits)
        self._threads = ThreadPoolExecutor(decoders, "decode")
        self._begun: deque[tuple[str, Future[tuple[Pixels | None, str]]]] = deque()
        self.most = decoders + 1  # clips that are to be begun: one for the model, and the next ones

    @property
    def begun(self) -> int:
        """Clips that are begun and not finished."""
        return len(self._begun)

    def load(self) -> None:
        """Load the model.

        Raises:
            MobiusError: If it cannot be loaded, which is not a failure of a clip.
        """
        _ = self._model.vae

    def begin(self, wanted: Wanted) -> None:
        """Have a clip decoded."""
        reading = self._threads.submit(attempt, lambda: self._read(wanted[1:]), self._retries)
        self._begun.append((wanted.clip_id, reading))

    def finish(self) -> Encoded:
        """Encode the clip that was begun first.

        Raises:
            Exception: An error that is not the clip's own and would meet the next one too.
        """
        clip_id, reading = self._begun.popleft()
        pixels, error = reading.result()
        if pixels is None:
            return Encoded(clip_id, None, error, self._where)
        self.load()
        moments, error = attempt(lambda: self._model.moments(pixels), self._retries)
        return Encoded(clip_id, moments, error, self._where)

    def close(self) -> None:
        """End what decodes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._read.stop()
        self._threads.shutdown()
