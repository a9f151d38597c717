"""Decoded clips in a Daft dataflow; without torch, which the workers of a cluster that decode do not need."""

from collections.abc import Callable
from typing import Any

import daft
import numpy as np
from daft import DataType

from mobius_pipeline.latents.retries import attempt
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.media.isolated_worker import WorkerLimits, Workers

_NOTHING = np.zeros((0, 0, 0, 3), np.uint8)  # Daft has no column of tensors without any
_DECODED = DataType.struct({"pixels": DataType.tensor(DataType.uint8()), "error": DataType.string()})


class Decoded:
    """Clips, decoded in watched processes: one that dies of a file takes nothing with it."""

    def __init__(self, read: Callable[[Any], Pixels], limits: WorkerLimits) -> None:
        """`read` decodes what a row names; it is sent to the processes."""
        self._read, self._retries = Workers(read, limits), limits.retries

    @daft.method(return_dtype=_DECODED)
    def __call__(self, path: str, sha256: str, frames: int, height: int, width: int) -> dict[str, Any]:
        """Decode a clip: its `pixels`, uint8 (F, H, W, 3), or an `error`."""
        wanted = (path, sha256, frames, height, width)
        pixels, error = attempt(lambda: self._read(wanted), self._retries)
        return {"pixels": _NOTHING if pixels is None else pixels, "error": error}
