"""Arrange videos in one still picture."""

from collections.abc import Sequence

import numpy as np
from einops import rearrange

from mobius_pipeline.media.decode import Pixels

GAP = 2  # px between frames
_GREY = 200


def grid(videos: Sequence[Pixels]) -> Pixels:
    """Arrange videos, uint8 (F, H, W, 3), in one picture: one row per video, frames from left to right.

    Raises:
        ValueError: If the videos differ in size, or there are none.
    """
    framed = np.pad(np.stack(videos), ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=_GREY)
    picture: Pixels = rearrange(framed, "n f h w c -> (n h) (f w) c")[:-GAP, :-GAP]
    return picture
