"""The small base that is trained from the clips."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import tiny
from mobius_pipeline.base_model import train
from mobius_pipeline.base_model.autoencoder import train_autoencoder
from mobius_pipeline.base_model.config import AutoencoderConfig, BaseConfig
from mobius_pipeline.base_model.load import TextEncoder
from mobius_pipeline.base_model.train import latents_of, train_base
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.runtime.errors import MobiusError


def test_clips_that_are_all_too_short_are_refused_by_name(tmp_path: Path) -> None:
    manifest = pd.DataFrame({"path": ["a.mp4"], "caption": ["a"], "split": ["train"], "model_frames": [3]})
    with pytest.raises(MobiusError, match="No training clip has 4 frames at 8 per second"):
        train_base(manifest, tmp_path, tiny.CLIP, BaseConfig.model_construct(), tmp_path / "base")
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(("height", "width"), [(8, 32), (32, 8)])
def test_the_autoencoder_is_trained_on_frames_of_any_shape(height: int, width: int) -> None:
    config = AutoencoderConfig(
        channels=(4, 4),
        latent_channels=2,
        norm_groups=2,
        kl_weight=1e-6,
        crop_share=1.0,
        colour_jitter_share=1.0,
        fit={"steps": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 1},
    )
    frames = torch.randint(256, (4, 3, height, width), dtype=torch.uint8)
    vae = train_autoencoder(frames, config, seed=0, device="cpu")
    assert vae.encode(frames[:1].float()).latent_dist.mean.shape == (1, 2, height // 2, width // 2)


def test_each_frame_is_trained_with_its_clips_caption(
    tmp_path: Path, sample_clips: Path, sample_table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sample_table[sample_table["model_frames"] >= tiny.CLIP.frames].drop_duplicates("caption")[:3]
    vae, seen = tiny.vae(), {}

    def observed(latents: Tensor, codes: Tensor, texts: Tensor, *_: object) -> Any:
        seen.update(latents=latents, codes=codes, texts=texts)
        return tiny.unet()

    monkeypatch.setattr(train, "train_autoencoder", lambda *_: vae)
    monkeypatch.setattr(train, "train_text_to_image", observed)
    config = BaseConfig.model_construct(
        seed=0,
        device="cpu",
        autoencoder=None,
        text_to_image=SimpleNamespace(text_tokens=12, prediction_type="v_prediction"),
    )
    folder = train_base(rows.assign(split="train"), sample_clips, tiny.CLIP, config, tmp_path / "base")
    encode, clips = TextEncoder(folder, "cpu"), zip(rows["path"], rows["caption"], strict=True)
    for number, (path, caption) in enumerate(clips):
        frames = torch.from_numpy(load_clip(sample_clips / path, tiny.CLIP)).permute(0, 3, 1, 2)
        own = slice(number * tiny.CLIP.frames, (number + 1) * tiny.CLIP.frames)
        torch.testing.assert_close(seen["latents"][own], latents_of(vae, frames, "cpu"))
        for code in seen["codes"][own]:
            assert torch.equal(seen["texts"][code], encode([caption])[0])
