"""A base is checked for everything that later steps need, before any file is copied."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from copies import copied
from mobius_pipeline.base_model.check import check_base, import_base
from mobius_pipeline.base_model.load import TextEncoder, base_fingerprint, load_scheduler, load_vae
from mobius_pipeline.base_model.settings import scaling_factor
from mobius_pipeline.models.base_unet import load_base
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import folder_digest

UNET, ENCODER = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    return copied(tiny_base, tmp_path / "base")


def configure(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(path)
    change(weights)
    path.unlink()
    save_file(weights, path)


def prefix(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[f"_orig_mod.{name}"] = weights.pop(name)


def drop(weights: dict[str, torch.Tensor]) -> None:
    weights.pop(sorted(weights)[0])


def add_lora(weights: dict[str, torch.Tensor]) -> None:
    weights["mid_block.attentions.0.lora_A.weight"] = torch.zeros(2)


def reshape(weights: dict[str, torch.Tensor]) -> None:
    name = next(name for name, weight in sorted(weights.items()) if weight.ndim > 1)
    weights[name] = torch.zeros(3, 3)


def as_pickle(base: Path, name: str) -> None:
    path = base / name
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def sdxl(base: Path) -> None:
    configure(base / "model_index.json", text_encoder_2=["transformers", "CLIPTextModelWithProjection"])


def inpainting(base: Path) -> None:
    tiny.unet(in_channels=9).save_pretrained(base / "unet")


def six_outputs(base: Path) -> None:
    tiny.unet(out_channels=6).save_pretrained(base / "unet")


def narrow_text(base: Path) -> None:
    tiny.unet(cross_attention_dim=64).save_pretrained(base / "unet")


def endless_captions(base: Path) -> None:
    configure(base / "tokenizer/tokenizer_config.json", model_max_length=None)


def unlinked(base: Path) -> None:
    (base / "scheduler/scheduler_config.json").unlink()


SCHEDULER = "scheduler/scheduler_config.json"
# How a base is damaged, and the message that must name it.
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "flow matching": (
        lambda base: configure(base / SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"),
        r"scheduler_config.json names the class FlowMatchEuler.* Flow matching",
    ),
    "edm": (lambda base: configure(base / SCHEDULER, _class_name="EDMEulerScheduler"), "EDM"),
    "flow sigmas": (lambda base: configure(base / SCHEDULER, use_flow_sigmas=True), "use_flow_sigmas: True"),
    "unknown setting": (
        lambda base: configure(base / SCHEDULER, snr_shift_scale=3.0),
        "snr_shift_scale: 3.0",
    ),
    "sample prediction": (
        lambda base: configure(base / SCHEDULER, prediction_type="sample"),
        "prediction_type 'sample'",
    ),
    "no schedule": (unlinked, "Cannot read .*scheduler_config.json"),
    "shift factor": (lambda base: configure(base / "vae/config.json", shift_factor=0.1), "shift_factor: 0.1"),
    "latents' mean": (
        lambda base: configure(base / "vae/config.json", latents_mean=[0.1] * 4),
        "latents_mean",
    ),
    "another VAE": (
        lambda base: configure(base / "vae/config.json", _class_name="AutoencoderTiny"),
        "names the class AutoencoderTiny",
    ),
    "VAE without a layer": (lambda base: rewrite(base / VAE, drop), "missing: decoder.conv_in.bias"),
    "VAE misshapen": (lambda base: rewrite(base / VAE, reshape), "base/vae"),
    "compiled encoder": (lambda base: rewrite(base / ENCODER, prefix), "_orig_mod.*compiled model"),
    "encoder without a layer": (lambda base: rewrite(base / ENCODER, drop), "missing: "),
    "another encoder": (
        lambda base: configure(base / "model_index.json", text_encoder=["transformers", "CLIPTextModel"]),
        "base/text_encoder",
    ),
    "an encoder of nobody's": (
        lambda base: configure(base / "model_index.json", text_encoder=["transformers", "NoModel"]),
        "model_index.json names .*NoModel.* as text_encoder",
    ),
    "LoRA": (lambda base: rewrite(base / UNET, add_lora), "LoRA layers"),
    "UNet without a layer": (lambda base: rewrite(base / UNET, drop), "missing: conv_in.bias"),
    "pickled UNet": (lambda base: as_pickle(base, UNET), "is a pickle, which can run code"),
    "pickled encoder": (lambda base: as_pickle(base, ENCODER), "is a pickle, which can run code"),
    "SDXL": (sdxl, "text_encoder_2"),
    "inpainting": (inpainting, "in_channels 9 .*inpainting"),
    "six outputs": (six_outputs, "in_channels 4 and out_channels 6; the latents of .* have 4"),
    "text width": (narrow_text, "cross_attention_dim 64; the text encoder in .* is 384 wide"),
    "no caption length": (endless_captions, "no model_max_length"),
    "no weights": (lambda base: (base / VAE).unlink(), "holds no weights as safetensors"),
    "no part": (lambda base: shutil.rmtree(base / "tokenizer"), "it lacks tokenizer"),
    "garbage index": (lambda base: (base / "model_index.json").write_text("[1"), "Cannot read .*model_index"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_used_is_refused_before_it_is_copied(case: str, base: Path, tmp_path: Path) -> None:
    target = tmp_path / "published"
    target.mkdir()
    (target / "model_index.json").write_text("of an earlier import")
    before = folder_digest(target)
    spoil, said = CASES[case]
    spoil(base)
    with pytest.raises(MobiusError, match=said) as error:
        import_base(base, target)
    assert str(base) in str(error.value)
    assert folder_digest(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "published"]


def test_an_import_mixes_with_no_earlier_one(base: Path, tmp_path: Path) -> None:
    """Regression: files of a stopped import stayed, and another model's weights were loaded."""
    target = tmp_path / "published"
    (target / "unet").mkdir(parents=True)
    (target / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another model's")
    (tmp_path / ".published.partial/published").mkdir(parents=True)
    (tmp_path / ".published.partial/published/rest").write_text("of a run that was killed")
    (base / "safety_checker").mkdir()
    import_base(base, target)
    assert sorted(path.name for path in target.iterdir()) == [
        "model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae",
    ]  # fmt: skip
    assert folder_digest(target / "unet") == folder_digest(base / "unet")


def test_a_link_to_nothing_stops_the_import(base: Path, tmp_path: Path) -> None:
    import_base(base, tmp_path / "published")
    before = folder_digest(tmp_path / "published")
    (base / "tokenizer/extra.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MobiusError, match=r"Cannot copy .*extra.json"):
        import_base(base, tmp_path / "published")
    assert folder_digest(tmp_path / "published") == before


def test_links_are_followed(base: Path, tmp_path: Path) -> None:
    """A snapshot of a model hub is a folder of links."""
    snapshot = tmp_path / "snapshot"
    for path in base.rglob("*"):
        if path.is_file():
            link = snapshot / path.relative_to(base)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    import_base(snapshot, tmp_path / "published")
    assert folder_digest(tmp_path / "published") == folder_digest(base)
    assert not any(path.is_symlink() for path in (tmp_path / "published").rglob("*"))


def test_variants_alone_are_loaded(base: Path, tiny_base: Path) -> None:
    for name in (UNET, VAE, ENCODER):
        path = base / name
        weights = {key: weight.half() for key, weight in load_file(path).items()}
        save_file(weights, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    check_base(base)
    found, expected = load_base(base).conv_in.weight, load_base(tiny_base).conv_in.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.half().float(), rtol=0, atol=0)
    (base / UNET).with_suffix(".ema.safetensors").write_bytes(b"")
    with pytest.raises(MobiusError, match=r"variants ema, fp16 .*keep the files of one"):
        load_base(base)


def test_lists_of_equal_values_are_that_value(base: Path, tiny_base: Path) -> None:
    configure(
        base / "unet/config.json",
        layers_per_block=[1, 1],
        only_cross_attention=[False, False],
        transformer_layers_per_block=[1, 1],
    )
    check_base(base)
    assert load_base(base).config.layers_per_block == 1
    torch.testing.assert_close(
        load_base(base).state_dict(), load_base(tiny_base).state_dict(), rtol=0, atol=0
    )
    configure(base / "unet/config.json", layers_per_block=[1, 2])
    with pytest.raises(MobiusError, match="unet"):
        check_base(base)


def test_a_scheduler_of_another_class_trains_the_same_noise(base: Path, tiny_base: Path) -> None:
    for name in (
        "PNDMScheduler",
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
    ):
        configure(
            base / SCHEDULER, _class_name=name, skip_prk_steps=True, use_karras_sigmas=True, flow_shift=1.0
        )
        check_base(base)
        assert torch.equal(load_scheduler(base).betas, load_scheduler(tiny_base).betas)


def test_parts_are_refused_wherever_they_are_loaded(base: Path) -> None:
    """A base may change after its import."""
    rewrite(base / VAE, prefix)
    rewrite(base / ENCODER, drop)
    configure(base / SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler")
    for load in (load_vae, load_scheduler, lambda folder: TextEncoder(folder, "cpu")):
        with pytest.raises(MobiusError):
            load(base)


def test_the_fingerprint_follows_every_change_of_a_file(base: Path) -> None:
    first = base_fingerprint(base)
    assert base_fingerprint(base) == first == folder_digest(base)
    config = base / "unet/config.json"
    config.write_bytes(config.read_bytes().replace(b"0", b"1", 1))  # of the same size
    assert base_fingerprint(base) == folder_digest(base) != first
    (base / "unet/more.json").write_text("{}")
    assert base_fingerprint(base) == folder_digest(base)


def test_the_scaling_factor_is_the_vae_s_or_diffusers_own(base: Path) -> None:
    path = base / "vae/config.json"
    assert scaling_factor(base) == load_vae(base).config.scaling_factor
    config = json.loads(path.read_text())
    del config["scaling_factor"]
    path.write_text(json.dumps(config))
    assert scaling_factor(base) == load_vae(base).config.scaling_factor == 0.18215
