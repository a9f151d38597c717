"""Encode clips to the moments of the VAE's posterior, one at a time, while the next clips are decoded.

A clip's moments do not depend on other clips. They depend on the number of threads, because sums are split
among them; the setting is the same for every process.
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

Bits = npt.NDArray[np.uint16]  # the bits of fp16: Daft has no fp16 tensors, and pipes send arrays by value


class Wanted(NamedTuple):
    """A clip to encode; height and width in px."""

    clip_id: str
    path: str
    source_sha256: str
    frames: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Pixels of all frames; the VAE's work is proportional to them."""
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class Encoded:
    """The result for one clip.

    Attributes:
        clip_id: The clip.
        moments: Posterior mean and log-variance, bits of fp16, (F, C, h, w) each; None if it failed.
        error: Why it failed, or "".
        where: The device that encoded it.
    """

    clip_id: str
    moments: tuple[Bits, Bits] | None
    error: str
    where: str


def bits(tensor: Tensor) -> Bits:
    """Convert a tensor to fp16 and return its bits, uint16 of the same shape."""
    found: Bits = tensor.half().cpu().numpy().view(np.uint16)
    return found


def halves(found: Bits) -> Tensor:
    """Return the fp16 tensor, of the same shape, that has these bits."""
    return torch.from_numpy(found.view(np.float16).copy())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ClipModel:
    """A VAE on a device, loaded on first use."""

    def __init__(self, base: Path, config: EncodeConfig, device: str) -> None:
        """Prepare the VAE of `base` on `device`; `config` gives `frames_per_batch` and `threads`."""
        self._base, self._config, self.device = base, config, device

    @cached_property
    def vae(self) -> AutoencoderKL:
        """The VAE."""
        return load_vae(self._base).to(self.device)

    def moments(self, clip: Pixels) -> tuple[Bits, Bits]:
        """Encode a clip, uint8 (F, H, W, 3), to its posterior mean and log-variance, (F, C, h, w) each."""
        with torch_threads(self._config.threads):
            # One clip at a time: the other clips in a batch would change its last bits.
            frames = to_unit(torch.from_numpy(clip.copy())).to(self.device)
            batches = torch.split(frames, self._config.frames_per_batch)
            parts = [posterior_moments(self.vae, batch) for batch in batches]
            mean, logvar = (bits(torch.cat(tensors)) for tensors in zip(*parts, strict=True))
        return mean, logvar


@dataclass(frozen=True)
class Setting:
    """What every process needs to encode clips; it is pickled and sent to them."""

    raw_clips: Path
    base: Path
    clip: ClipFormat
    config: EncodeConfig

    @property
    def limits(self) -> WorkerLimits:
        """Limits of a decoding process."""
        config = self.config
        return WorkerLimits(config.seconds_per_file, config.memory_mib_per_file, config.retries, "encode")

    @property
    def read(self) -> Callable[[tuple[str, str, int, int, int]], Pixels]:
        """Function that decodes a clip; it can be pickled and sent to another process."""
        return partial(read_sized, self.raw_clips, self.clip)

    def model(self, device: str) -> ClipModel:
        """Return a VAE for one process, on `device`."""
        return ClipModel(self.base, self.config, device)


class Encoder:
    """Encodes clips in the order in which they are submitted with `begin`."""

    def __init__(self, setting: Setting, device: str, decoders: int, where: str) -> None:
        """Use one VAE on `device` and `decoders` decoding processes; `where` names them in results."""
        self._model, self._retries, self._where = setting.model(device), setting.config.retries, where
        self._read = Workers(setting.read, setting.limits)
        self._threads = ThreadPoolExecutor(decoders, "decode")
        self._pending: deque[tuple[str, Future[tuple[Pixels | None, str]]]] = deque()
        self.most = decoders + 1  # clips to begin ahead: one for the VAE, the others for the decoders

    @property
    def pending(self) -> int:
        """Number of clips that are not finished."""
        return len(self._pending)

    def load(self) -> None:
        """Load the VAE.

        Raises:
            MobiusError: If it cannot be loaded. This is not the fault of a clip.
        """
        _ = self._model.vae

    def begin(self, wanted: Wanted) -> None:
        """Start decoding a clip."""
        reading = self._threads.submit(attempt, lambda: self._read(wanted[1:]), self._retries)
        self._pending.append((wanted.clip_id, reading))

    def finish(self) -> Encoded:
        """Encode the first of the pending clips.

        Raises:
            Exception: An error that is not the fault of this clip and would recur with the next one.
        """
        clip_id, reading = self._pending.popleft()
        pixels, error = reading.result()
        if pixels is None:
            return Encoded(clip_id, None, error, self._where)
        self.load()
        moments, error = attempt(lambda: self._model.moments(pixels), self._retries)
        return Encoded(clip_id, moments, error, self._where)

    def close(self) -> None:
        """Stop the decoding processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._read.stop()
        self._threads.shutdown()
