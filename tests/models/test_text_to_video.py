"""The diffusers pipeline: what it samples, accepts and refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from copies import copied
from mobius_pipeline.base_model.load import TextEncoder
from mobius_pipeline.models.pretrained import build_from_base, save_trained
from mobius_pipeline.models.text_to_video import MobiusTextToVideoPipeline
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.errors import MobiusError

pytestmark = pytest.mark.slow

PROMPTS = ["a red circle falling", "a blue ring growing"]


def write_trained(folder: Path, base: Path, mode: Mode = "parallel") -> Path:
    model = build_from_base(tiny.variant(mode), base, seed=1)
    save_trained(tiny.move(model), folder, base)
    return folder


@pytest.fixture
def pipe(tiny_base: Path, tmp_path: Path) -> MobiusTextToVideoPipeline:
    pipeline = MobiusTextToVideoPipeline.from_pretrained(tiny_base, write_trained(tmp_path / "t", tiny_base))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipe: MobiusTextToVideoPipeline, prompt: Any = PROMPTS, **options: Any) -> Any:
    settings: dict[str, Any] = {"num_frames": 3, "num_inference_steps": 3, "output_type": "np"}
    if "latents" not in options:
        settings["generator"] = torch.Generator().manual_seed(0)
    return pipe(prompt, **settings | options).frames


@torch.no_grad()
def ddim(
    pipe: MobiusTextToVideoPipeline, noise: Tensor, text: Tensor, no_text: Tensor, scale: float
) -> Tensor:
    """Equation 12 of Song et al. 2021 at eta 0, for v-prediction (Salimans & Ho 2022), guided."""
    alphas = pipe.scheduler.alphas_cumprod
    times = pipe.scheduler.timesteps.tolist()
    stride = pipe.scheduler.config.num_train_timesteps // len(times)
    x = noise
    for time in times:
        away, towards = (pipe.unet(x, torch.tensor(time), words).sample for words in (no_text, text))
        v = away + scale * (towards - away)
        now = alphas[time]
        before = alphas[time - stride] if time >= stride else pipe.scheduler.final_alpha_cumprod
        start = now.sqrt() * x - (1 - now).sqrt() * v
        noise = now.sqrt() * v + (1 - now).sqrt() * x
        x = before.sqrt() * start + (1 - before).sqrt() * noise
    return x


def test_samples_as_the_equations_say(pipe: MobiusTextToVideoPipeline, tiny_base: Path) -> None:
    noise = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    latents = sample(pipe, latents=noise, guidance_scale=3.0, output_type="latent")
    encode = TextEncoder(tiny_base, "cpu")
    expected = ddim(pipe, noise, encode(PROMPTS), encode(["", ""]), 3.0)
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)


def test_guidance_of_one_is_the_prompt_alone(pipe: MobiusTextToVideoPipeline, tiny_base: Path) -> None:
    noise = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    latents = sample(pipe, latents=noise, guidance_scale=1.0, output_type="latent")
    text = TextEncoder(tiny_base, "cpu")(PROMPTS)
    torch.testing.assert_close(latents, ddim(pipe, noise, text, text, 1.0), rtol=1e-4, atol=1e-5)


def test_gives_frames_in_diffusers_forms(pipe: MobiusTextToVideoPipeline) -> None:
    array = sample(pipe)
    assert array.shape == (2, 3, 16, 16, 3)
    assert array.dtype == np.float32
    assert 0 <= array.min() < array.max() <= 1
    tensor = sample(pipe, output_type="pt")
    assert tensor.shape == (2, 3, 3, 16, 16)
    np.testing.assert_allclose(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    images = sample(pipe, output_type="pil")
    assert [len(video) for video in images] == [3, 3]
    np.testing.assert_allclose(np.asarray(images[1][2]) / 255, array[1, 2], atol=0.003)
    assert sample(pipe, output_type="latent").shape == (2, 4, 3, 4, 4)
    assert sample(pipe, height=8, width=24).shape == (2, 3, 8, 24, 3)
    assert sample(pipe, num_videos_per_prompt=2).shape == (4, 3, 16, 16, 3)


def test_the_generator_decides_and_words_count(pipe: MobiusTextToVideoPipeline) -> None:
    first = sample(pipe)
    assert np.array_equal(first, sample(pipe))
    assert not np.array_equal(first, sample(pipe, generator=torch.Generator().manual_seed(1)))
    assert not np.array_equal(first, sample(pipe, negative_prompt="a green bar"))
    assert not np.array_equal(first, sample(pipe, prompt=PROMPTS[::-1]))
    seeds = [torch.Generator().manual_seed(seed) for seed in (4, 5)]
    alone = sample(pipe, prompt=PROMPTS[1], generator=torch.Generator().manual_seed(5))
    np.testing.assert_allclose(sample(pipe, generator=seeds)[1], alone[0], atol=1e-4)


def test_embeddings_stand_for_prompts(pipe: MobiusTextToVideoPipeline, tiny_base: Path) -> None:
    encode, given = TextEncoder(tiny_base, "cpu"), {"guidance_scale": 3.0}
    words = sample(pipe, negative_prompt="a green bar", **given)
    embedded = {"prompt_embeds": encode(PROMPTS), "negative_prompt_embeds": encode(["a green bar"])}
    np.testing.assert_allclose(sample(pipe, prompt=None, **embedded, **given), words, atol=1e-5)
    plain = sample(pipe, prompt=None, prompt_embeds=encode(PROMPTS), **given)
    np.testing.assert_allclose(plain, sample(pipe, **given), atol=1e-5)


@pytest.mark.parametrize("scheduler", [DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_schedulers_are_interchangeable(pipe: MobiusTextToVideoPipeline, scheduler: Any) -> None:
    before = sample(pipe)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    after = sample(pipe)
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("mode", ["serial", "sum"])
def test_takes_every_mode(mode: Mode, tiny_base: Path, tmp_path: Path) -> None:
    pipe = MobiusTextToVideoPipeline.from_pretrained(tiny_base, write_trained(tmp_path, tiny_base, mode))
    assert sample(pipe).shape == (2, 3, 16, 16, 3)


def test_slices_and_tiles_and_moves_its_parts(pipe: MobiusTextToVideoPipeline) -> None:
    whole = sample(pipe)
    pipe.enable_vae_slicing()
    np.testing.assert_allclose(sample(pipe), whole, atol=1e-5)
    pipe.enable_vae_tiling()
    assert pipe.vae.use_tiling
    parts = pipe.model_cpu_offload_seq.split("->")
    assert {name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)} == set(parts)


def test_runs_in_half_precision(pipe: MobiusTextToVideoPipeline) -> None:
    noise = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    whole = sample(pipe, latents=noise)
    half = sample(pipe.to(torch.bfloat16), latents=noise)
    assert 0 < np.abs(half - whole).mean() < 0.02


def test_a_callback_may_change_the_latents(pipe: MobiusTextToVideoPipeline) -> None:
    seen = []

    def still(_: Any, step: int, timestep: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((step, int(timestep)))
        return {"latents": torch.zeros_like(values["latents"])}

    assert not sample(pipe, output_type="latent", callback_on_step_end=still).any()
    assert [step for step, _ in seen] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_frames": 0}, "take at least 1"),
        ({"height": 18}, "multiples of 4 px"),
        ({"generator": [torch.Generator()]}, "1 of them for 2 videos"),
        ({"negative_prompt": ["a", "b", "c"]}, "3 of them for 2 prompts"),
        ({"latents": torch.zeros(1, 4, 3, 4, 4)}, "expected"),
        ({"latents": torch.zeros(2, 4, 5, 4, 4)}, "expected"),
        ({"generator": (torch.Generator(),)}, "1 of them for 2 videos"),
        ({"num_inference_steps": 0}, "take 1 or more"),
        ({"output_type": "gif"}, "none of pil, np, pt, latent"),
        ({"prompt": 3}, "neither a text nor a list"),
        ({"prompt": None}, "neither a text nor a list"),
        ({"prompt_embeds": torch.zeros(2, 12, 384)}, "prompt and prompt_embeds are both given"),
        ({"prompt": None, "prompt_embeds": torch.zeros(2, 384)}, r"expected \(P, L, 384\)"),
        ({"negative_prompt_embeds": torch.zeros(3, 12, 384)}, "3 of them for 2 prompts"),
    ],
)
def test_refuses_what_it_cannot_use(
    pipe: MobiusTextToVideoPipeline, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MobiusError, match=reason):
        sample(pipe, **options)


def test_stochastic_ddim_stays_finite(pipe: MobiusTextToVideoPipeline) -> None:
    assert np.isfinite(sample(pipe, eta=1.0)).all()


def test_refuses_what_it_cannot_load_or_save(
    pipe: MobiusTextToVideoPipeline, tiny_base: Path, tmp_path: Path
) -> None:
    folder = write_trained(tmp_path / "trained", tiny_base)
    with pytest.raises(MobiusError, match="Unknown options"):
        MobiusTextToVideoPipeline.from_pretrained(tiny_base, folder, precision="low")
    by_hand = MobiusTextToVideoPipeline(**pipe.components)
    with pytest.raises(MobiusError, match="knows its base"):
        by_hand.save_pretrained(tmp_path / "saved")


def test_computes_in_float32_whatever_the_files_hold(tiny_base: Path, tmp_path: Path) -> None:
    base = copied(tiny_base, tmp_path / "base")
    weights = base / "text_encoder/model.safetensors"
    halves = {name: weight.half() for name, weight in load_file(weights).items()}
    weights.unlink()
    save_file(halves, weights, metadata={"format": "pt"})
    pipe = MobiusTextToVideoPipeline.from_pretrained(base, write_trained(tmp_path / "trained", base))
    assert pipe.text_encoder.dtype == torch.float32


def test_what_was_trained_is_saved_alone(
    pipe: MobiusTextToVideoPipeline, tiny_base: Path, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    again = MobiusTextToVideoPipeline.from_pretrained(tiny_base, tmp_path / "saved")
    assert np.array_equal(sample(again), sample(pipe))


def test_a_folder_that_is_no_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="Cannot load the vae of"):
        MobiusTextToVideoPipeline.from_pretrained(tmp_path, tmp_path)
