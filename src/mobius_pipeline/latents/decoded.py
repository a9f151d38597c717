"""Decode clips in a Daft dataflow. Does not import torch, which a cluster's decoding workers do not need."""

from collections.abc import Callable
from typing import Any

import daft
import numpy as np
from daft import DataType

from mobius_pipeline.latents.retries import attempt
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.media.isolated_worker import WorkerLimits, Workers

_NOTHING = np.zeros((0, 0, 0, 3), np.uint8)  # Daft needs a tensor in every row
_DECODED = DataType.struct({"pixels": DataType.tensor(DataType.uint8()), "error": DataType.string()})


class Decoded:
    """Decodes clips in isolated processes, so that a file that crashes its decoder does not end the run."""

    def __init__(self, read: Callable[[Any], Pixels], limits: WorkerLimits) -> None:
        """Decode with `read`, which is pickled and sent to the processes."""
        self._read, self._retries = Workers(read, limits), limits.retries

    @daft.method(return_dtype=_DECODED)
    def __call__(self, path: str, sha256: str, frames: int, height: int, width: int) -> dict[str, Any]:
        """Return `pixels` of a clip, uint8 (F, H, W, 3), or an `error`."""
        wanted = (path, sha256, frames, height, width)
        pixels, error = attempt(lambda: self._read(wanted), self._retries)
        return {"pixels": _NOTHING if pixels is None else pixels, "error": error}
