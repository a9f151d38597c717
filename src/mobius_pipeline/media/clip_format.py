"""Define the clip format of the models: number of frames, frame rate and size."""

import math
from typing import Annotated

from pydantic import Field

from mobius_pipeline.runtime.config import Config

Channel = Annotated[int, Field(ge=0, le=255)]


class ClipSize(Config):
    """Size of a clip: number of frames, height and width in px."""

    frames: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)

    @property
    def volume(self) -> int:
        """Number of pixels of all frames."""
        return self.frames * self.height * self.width


class ClipFormat(ClipSize):
    """The clip format of the models: size, and every `stride`th frame at `fps`.

    The base is trained, and videos are sampled and evaluated, at this size. `buckets` are further sizes for
    training: each clip is encoded at the size that fits it best.
    """

    frames: int = Field(ge=2, description="a sampled video needs two frames to be evaluated")
    fps: float = Field(gt=0)
    stride: int = Field(default=1, gt=0)
    buckets: tuple[ClipSize, ...] = ()
    background: tuple[Channel, Channel, Channel] = Field(
        default=(255, 255, 255), description="RGB that transparent pixels are composed on"
    )

    @property
    def rate(self) -> float:
        """Frame rate of the model, in frames per second."""
        return self.fps / self.stride

    @property
    def sizes(self) -> list[ClipSize]:
        """The size of this format, then the buckets."""
        return [ClipSize(frames=self.frames, height=self.height, width=self.width), *self.buckets]

    def size_for(self, frames: int, height: int, width: int) -> ClipSize | None:
        """Return the bucket of a clip with `frames` frames at this rate, of `height` x `width` px.

        Among the sizes that the clip is long enough for, this is the one nearest to its aspect ratio. Ties
        are decided in favour of a size without upscaling, then by most frames, then by most pixels.

        Returns:
            The size, or None if the clip is too short for all of them.
        """

        def misfit(size: ClipSize) -> tuple[float, bool, int, int]:
            skew = abs(math.log(size.width / size.height) - math.log(width / height))
            blown_up = size.height > height or size.width > width
            return round(skew, 3), blown_up, -size.frames, -size.volume

        return min((size for size in self.sizes if size.frames <= frames), key=misfit, default=None)

    def sized(self, size: ClipSize) -> "ClipFormat":
        """Return this format with another size and without buckets."""
        return self.model_copy(update={**size.model_dump(), "buckets": ()})
