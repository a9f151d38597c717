"""A set of sampled videos, as later stages read it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mobius_pipeline.runtime.files import Inside, read_document, unusable

if TYPE_CHECKING:
    from torch import Tensor

FRAMES, LISTING, GRID = "frames.safetensors", "samples.json", "grid.png"


@dataclass(frozen=True)
class Sample:
    """A sampled video; `clip` is the path of the real clip with that caption, if the prompt came from one."""

    prompt: str
    seed: int
    mp4: Inside
    gif: Inside
    clip: Inside | None


@dataclass(frozen=True)
class SampleSet:
    """The folder that `sample_videos` writes; each file is read on first access.

    Attributes:
        folder: The folder.
        remedy: How to restore the samples, for errors; "" names the sampling pipeline of the folder's mode.
    """

    folder: Path
    remedy: str = field(default="", compare=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a folder and read all of its files but the videos.

        Raises:
            MobiusError: If a file is missing or damaged, or the listing names one outside the folder.
        """
        found = cls(folder)
        _ = found.frames
        return found

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples, one per prompt; their paths are relative to the folder.

        Raises:
            MobiusError: If the listing is missing or damaged.
        """
        return read_document(self.folder / LISTING, list[Sample], self._remedy)

    @property
    def prompts(self) -> list[str]:
        """The prompt of each sample."""
        return [sample.prompt for sample in self.samples]

    @cached_property
    def frames(self) -> "Tensor":
        """The frames of all samples, uint8 (N, F, H, W, 3).

        Raises:
            MobiusError: If the file is missing or damaged, or belongs to other samples.
        """
        import torch

        from mobius_pipeline.models.weights import read_tensors

        frames = read_tensors(self.folder / FRAMES, self._remedy).get("frames", torch.empty(0))
        if len(frames) != len(self.samples):
            what = f"it holds {len(frames)} videos instead of {len(self.samples)}"
            raise unusable(self.folder / FRAMES, what, self._remedy)
        return frames

    @property
    def _remedy(self) -> str:
        return self.remedy or f"Sample again: `kedro run --pipelines=sample_{self.folder.name}`."
