"""Previews: videos sampled during training from the same prompts and noise, to show progress.

Shapes: `F` frames, `C` latent channels, `h w` latent size, `H W` size in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.load import quiet_loading
from mobius_pipeline.ingest.split import HELDOUT
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.media.frames import Pixels
from mobius_pipeline.media.grid import grid
from mobius_pipeline.media.write import write_mp4
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.runtime.files import atomic_folder
from mobius_pipeline.sampling.sample import sample_frames
from mobius_pipeline.training.config import PreviewConfig

SHOWN = 64  # px; frames are enlarged to at least this height


@dataclass(frozen=True)
class Preview:
    """A sampled video with its prompt; `frames` is uint8 (F, H, W, 3)."""

    prompt: str
    frames: Pixels


class Previewer:
    """Samples and reports previews after the steps that are due."""

    def __init__(
        self,
        sample: Callable[[nn.Module], list[Preview]],
        report: Callable[[list[Preview], int], None],
        every: int,
        end: int,
    ) -> None:
        """Call `sample`, and `report` with its previews, every `every` steps and after step `end`."""
        self._sample, self._report, self._every, self._end = sample, report, every, end
        self.shown_step: int | None = None

    def due(self, step: int) -> bool:
        """Return whether to sample after a step: it is due and not done yet."""
        return step > 0 and self.shown_step != step and (step == self._end or step % self._every == 0)

    def show(self, model: nn.Module, step: int) -> None:
        """Sample after a step with the model's current weights, and report."""
        self._report(self._sample(model), step)
        self.shown_step = step

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last preview under its name in `History`."""
        return {"shown": self.shown_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.shown_step = state["shown"]


def sample_previews(
    model: nn.Module, base: BaseModel, store: LatentsStore, config: PreviewConfig, device: str
) -> list[Preview]:
    """Sample previews with the current weights of a model in training.

    VAE and text encoder are loaded for each call and freed after it, so training does not hold them.
    """
    quiet_loading()
    prompts = config.prompts or [clip.caption for clip in store.clips(HELDOUT)[: config.count]]
    pipe = MobiusTextToVideoPipeline.around(model, base.folder).to(device)
    (videos,) = sample_frames(
        pipe,
        prompts,
        store.clip,
        seed=config.seed,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        batch_size=len(prompts),
    )
    return [Preview(prompt, video) for prompt, video in zip(prompts, videos.numpy(), strict=True)]


def due_steps(config: PreviewConfig, end: int) -> list[int]:
    """Return the steps after which a training of `end` steps samples previews."""
    return [*range(config.every, end, config.every), end]


def picture(previews: Sequence[Preview]) -> Pixels:
    """Return one picture, uint8 (H, W, 3): a row per video, with its frames from left to right."""
    return grid([_enlarged(one.frames) for one in previews])


def write_previews(previews: Sequence[Preview], folder: Path, fps: float) -> None:
    """Write each video into `folder`, named by its number and prompt; the folder is replaced."""
    with atomic_folder(folder) as partial:
        for i, one in enumerate(previews):
            words = "-".join("".join(c if c.isalnum() else " " for c in one.prompt).split())[:60]
            write_mp4(partial / f"{i}-{words}.mp4", _enlarged(one.frames), fps)


def _enlarged(frames: Pixels) -> Pixels:
    times = -(-SHOWN // frames.shape[1])
    return frames.repeat(times, axis=1).repeat(times, axis=2)
