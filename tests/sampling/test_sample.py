"""Sampling: each video from its own seed in any batch, and its files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.pretrained import build_from_base
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.sampling.config import SampleConfig
from mobius_pipeline.sampling.sample import choose_prompts, first_noise, sample_frames, sample_videos
from mobius_pipeline.sampling.sample_set import Sample, SampleSet
from probing import probe

PROMPTS = ["a red circle falling", "a blue ring growing", "a green bar sliding"]


@pytest.fixture(scope="module")
def pipe(tiny_base: Path) -> MobiusTextToVideoPipeline:
    model = tiny.move(build_from_base(tiny.PARALLEL, tiny_base, seed=1))
    return MobiusTextToVideoPipeline.around(model, tiny_base)


@pytest.fixture
def store(tiny_store: Path) -> LatentsStore:
    return LatentsStore(tiny_store)


def config(**changes: Any) -> SampleConfig:
    settings: dict[str, Any] = {
        "prompts": None,
        "split": "heldout",
        "count": 2,
        "seed": 5,
        "steps": 2,
        "guidance_scale": 2.0,
        "batch_size": 2,
        "magnify": 3,
        "device": "cpu",
    }
    return SampleConfig(**settings | changes)


def sampled(pipe: MobiusTextToVideoPipeline, prompts: list[str], **changes: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"seed": 5, "steps": 2, "guidance_scale": 2.0, "batch_size": 3}
    return torch.cat(list(sample_frames(pipe, prompts, tiny.CLIP, **settings | changes)))


def test_noise_is_of_each_videos_own_seed() -> None:
    noise = first_noise([7, 8], (4, 16, 32, 32))
    assert torch.equal(noise[1], first_noise([8], (4, 16, 32, 32))[0])
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01
    assert abs(float((noise[0] * noise[1]).mean())) < 0.02


def test_a_video_does_not_depend_on_its_batch(pipe: MobiusTextToVideoPipeline) -> None:
    together = sampled(pipe, PROMPTS)
    assert together.shape == (3, 4, 16, 16, 3)
    assert together.dtype == torch.uint8
    for size in (1, 2):
        apart = sampled(pipe, PROMPTS, batch_size=size)
        # Other batch sizes sum in another order: a value may round to the next one.
        assert (together.int() - apart.int()).abs().max() <= 1
    last = sampled(pipe, PROMPTS[2:], seed=7)
    assert (together[2:].int() - last.int()).abs().max() <= 1


@pytest.mark.parametrize("changes", [{"seed": 6}, {"guidance_scale": 9.0}, {"steps": 4}])
def test_what_is_configured_changes_the_video(
    changes: dict[str, Any], pipe: MobiusTextToVideoPipeline
) -> None:
    assert not torch.equal(sampled(pipe, PROMPTS[:1]), sampled(pipe, PROMPTS[:1], **changes))


def test_prompts_are_those_configured_or_captions_of_the_split(
    store: LatentsStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_prompts(store, config(prompts=PROMPTS)) == [(prompt, None) for prompt in PROMPTS]
    for split in ("heldout", "train"):
        clips = store.clips(split)[:2]
        assert choose_prompts(store, config(split=split)) == [(clip.caption, clip.path) for clip in clips]
    assert not caplog.messages
    every = len(store.clips("heldout"))
    assert len(choose_prompts(store, config(count=every + 1))) == every
    assert caplog.messages == [
        f"Only {every} clips in the split heldout: all of them are sampled, instead of {every + 1}."
    ]


def test_a_shorter_clip_is_not_shown_beside_a_sample(
    store: LatentsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store.clips("heldout")[:2]
    monkeypatch.setattr(store, "clips", lambda split: [replace(first, frames=2), second])
    assert choose_prompts(store, config()) == [(first.caption, None), (second.caption, second.path)]


def test_files_hold_what_was_sampled(
    pipe: MobiusTextToVideoPipeline, store: LatentsStore, tmp_path: Path
) -> None:
    written = sample_videos(pipe, store, config(prompts=PROMPTS), 8.0, tmp_path / "serial")
    found = SampleSet.load(written.folder)
    assert found.samples == [
        Sample(prompt, 5 + i, f"{i:03d}.mp4", f"{i:03d}.gif", None) for i, prompt in enumerate(PROMPTS)
    ]
    assert found.prompts == PROMPTS
    assert torch.equal(found.frames, sampled(pipe, PROMPTS, batch_size=2))
    for sample in found.samples:
        for name in (sample.mp4, sample.gif):
            video = probe(found.folder / name)
            assert (video.width, video.height, video.frames, video.fps) == (48, 48, 4, 8)
    with Image.open(found.folder / sample.gif) as gif:
        shown = np.asarray(gif.convert("RGB"), np.int16)[1::3, 1::3]
    # GIF has a palette: its colours are near those that were sampled.
    assert np.abs(shown - found.frames[2, 0].numpy()).mean() < 16
