"""The clip format of the models: frames, rate and size."""

import math
from typing import Annotated

from pydantic import Field

from mobius_pipeline.runtime.config import Config

Channel = Annotated[int, Field(ge=0, le=255)]


class ClipSize(Config):
    """`frames` frames of `height` x `width` px."""

    frames: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)

    @property
    def volume(self) -> int:
        """Pixels of all frames."""
        return self.frames * self.height * self.width


class ClipFormat(ClipSize):
    """The clip format of the models: number of frames, every `stride`th of `fps` a second, and size.

    That size is also the one that the base is trained at, and that videos are sampled and evaluated at. In
    `buckets` are further ones that trainings take, each clip in the one that suits it.
    """

    fps: float = Field(gt=0)
    stride: int = Field(default=1, gt=0)
    buckets: tuple[ClipSize, ...] = ()
    background: tuple[Channel, Channel, Channel] = Field(
        default=(255, 255, 255), description="RGB that transparent pixels are composed on"
    )

    @property
    def rate(self) -> float:
        """Frames a second that the model takes."""
        return self.fps / self.stride

    @property
    def sizes(self) -> list[ClipSize]:
        """This format's own size, and the buckets."""
        return [ClipSize(frames=self.frames, height=self.height, width=self.width), *self.buckets]

    def size_for(self, frames: int, height: int, width: int) -> ClipSize | None:
        """The bucket of a clip with `frames` frames at this rate, of `height` x `width` px.

        Of those that it is long enough for, the one nearest to its aspect ratio; then one that need not be
        blown up, the one with most frames, the largest. None if it is too short for all.
        """

        def misfit(size: ClipSize) -> tuple[float, bool, int, int]:
            skew = abs(math.log(size.width / size.height) - math.log(width / height))
            blown_up = size.height > height or size.width > width
            return round(skew, 3), blown_up, -size.frames, -size.volume

        return min((size for size in self.sizes if size.frames <= frames), key=misfit, default=None)

    def sized(self, size: ClipSize) -> "ClipFormat":
        """The same rate with another size, and without buckets."""
        return self.model_copy(update={**size.model_dump(), "buckets": ()})
