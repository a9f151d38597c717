"""Exported results: what diffusers and this project load of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
from torch import Tensor, nn

import tiny
from copies import copied
from mobius_pipeline.cli import main
from mobius_pipeline.models.base_unet import load_base
from mobius_pipeline.models.export import export
from mobius_pipeline.models.factory import start_of
from mobius_pipeline.models.pretrained import build_from_base, load_trained, save_trained
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.errors import MobiusError


def write_trained(folder: Path, base: Path, mode: Mode) -> Path:
    save_trained(tiny.move(build_from_base(tiny.variant(mode), base, seed=1)), folder, base)
    return folder


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    source = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 3, 4, 4, generator=source)
    text = torch.randn(2, 12, 384, generator=source)
    prediction: Tensor = model(sample, torch.tensor([10, 900]), text, return_dict=False)[0]
    return prediction


def test_serial_is_a_text_to_video_directory_of_diffusers(tiny_base: Path, tmp_path: Path) -> None:
    trained = write_trained(tmp_path / "serial", tiny_base, "serial")
    expected = run(load_trained(trained, tiny_base))
    words = ["export", str(trained), "--base", str(tiny_base), "--output", str(tmp_path / "exported")]
    assert main(words) == 0

    unet = UNet3DConditionModel.from_pretrained(tmp_path / "exported/unet")
    torch.testing.assert_close(run(unet.eval()), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(run(start_of(load_base(tmp_path / "exported"))), expected, rtol=0, atol=2e-6)

    pipe = TextToVideoSDPipeline.from_pretrained(tmp_path / "exported")
    pipe.set_progress_bar_config(disable=True)
    ours = MobiusTextToVideoPipeline.from_pretrained(tiny_base, trained)
    ours.set_progress_bar_config(disable=True)
    for one in (pipe, ours):
        one.scheduler = DDIMScheduler.from_config(one.scheduler.config)
    noise = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    text = torch.randn(1, 12, 384, generator=torch.Generator().manual_seed(4))
    options = {
        "num_frames": 3, "num_inference_steps": 3, "guidance_scale": 1.0, "output_type": "np",
        "prompt_embeds": text,
    }  # fmt: skip
    theirs = pipe(height=16, width=16, latents=noise.clone(), **options).frames
    np.testing.assert_allclose(ours(latents=noise, **options).frames, theirs, atol=1e-4)


def test_parallel_is_a_folder_of_its_own(tiny_base: Path, tmp_path: Path) -> None:
    trained = write_trained(tmp_path / "parallel", tiny_base, "parallel")
    expected = run(load_trained(trained, tiny_base))
    copied(tiny_base, tmp_path / "base")
    export(trained, tmp_path / "base", tmp_path / "exported")
    shutil.rmtree(tmp_path / "base")
    shutil.rmtree(trained)
    pipe = MobiusTextToVideoPipeline.from_pretrained(tmp_path / "exported")
    assert torch.equal(run(pipe.unet), expected)
    with pytest.raises(MobiusError, match="Cannot read"):
        MobiusTextToVideoPipeline.from_pretrained(tiny_base)


def test_heads_of_several_widths_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    base = copied(tiny_base, tmp_path / "base")
    tiny.unet(attention_head_dim=(2, 2)).save_pretrained(base / "unet")
    trained = write_trained(tmp_path / "serial", base, "serial")
    with pytest.raises(MobiusError, match=r"heads of \[8, 16\] channels .*has one width for all"):
        export(trained, base, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_nothing_but_an_earlier_export_is_replaced(tiny_base: Path, tmp_path: Path) -> None:
    base = copied(tiny_base, tmp_path / "base")
    trained = write_trained(tmp_path / "parallel", base, "parallel")
    export(trained, base, tmp_path / "exported")
    export(trained, base, tmp_path / "exported")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    for target, reason in (
        ("thesis", "not an exported model"),
        ("base", "the model that is exported"),
        (".", "the model that is exported"),
    ):
        with pytest.raises(MobiusError, match=reason):
            export(trained, base, tmp_path / target)
    assert (tmp_path / "thesis/chapter.txt").is_file()
    shutil.rmtree(base / "tokenizer")
    with pytest.raises(MobiusError, match="lacks tokenizer"):
        export(trained, base, tmp_path / "exported")
    assert (tmp_path / "exported/tokenizer").is_dir()
