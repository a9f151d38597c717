"""Image and video bases on disk, and models trained on them."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tiny
from mobius_pipeline.models.factory import start_of, trainable_parameters
from mobius_pipeline.models.pretrained import (
    CONFIG,
    WEIGHTS,
    build_from_base,
    load_base,
    load_trained,
    save_trained,
)
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.errors import MobiusError

VARIANTS = [
    tiny.PARALLEL,
    Variant("parallel", tail=3, width=0.25, blocks="attention", train_head=True),
    Variant("parallel", tail=2),
    Variant("serial"),
    Variant("serial", train_head=True),
    Variant("sum"),
]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents (2, 4, 3, 6, 5), timesteps (2,), text (2, 6, 384)."""
    source = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 3, 6, 5, generator=source)
    return sample, torch.tensor([10, 900]), torch.randn(2, 6, 384, generator=source)


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    prediction: Tensor = model.eval()(*inputs(), return_dict=False)[0]
    return prediction


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A T2I base that has only a UNet."""
    tiny.unet().save_pretrained(tmp_path / "base/unet")
    return tmp_path / "base"


def video_unet() -> UNet3DConditionModel:
    """A text-to-video UNet whose temporal layers are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = UNet3DConditionModel(
            sample_size=4,
            block_out_channels=(16, 32, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
            cross_attention_dim=384,
            attention_head_dim=8,
            norm_num_groups=4,
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def video_base(tmp_path: Path) -> Path:
    video_unet().save_pretrained(tmp_path / "video/unet")
    return tmp_path / "video"


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_what_was_trained_comes_back_alone(variant: Variant, base: Path, tmp_path: Path) -> None:
    model = tiny.move(build_from_base(variant, base, seed=1))
    save_trained(model, tmp_path / "trained", base)
    assert load_file(tmp_path / "trained" / WEIGHTS).keys() == trainable_parameters(model).keys()
    again = load_trained(tmp_path / "trained", base)
    assert torch.equal(run(again), run(model))


def test_memory_levers_may_change_on_loading(base: Path, tmp_path: Path) -> None:
    model = tiny.move(build_from_base(tiny.PARALLEL, base, seed=1))
    save_trained(model, tmp_path / "trained", base)
    half = load_trained(tmp_path / "trained", base, spatial_dtype="bfloat16", channels_last=True)
    assert half.get_submodule("frozen").conv_in.weight.dtype == torch.bfloat16
    assert half.get_submodule("frozen").conv_out.weight.dtype == torch.float32
    torch.testing.assert_close(run(half), run(model), rtol=0, atol=0.1)
    assert not torch.equal(run(half), run(model))


def test_options_of_other_versions_load_or_are_named(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    save_trained(build_from_base(tiny.PARALLEL, base, seed=1), folder, base)
    config = json.loads((folder / CONFIG).read_text())
    lever = config["variant"].pop("channels_last")  # as if an earlier version had not had it
    (folder / CONFIG).write_text(json.dumps(config))
    assert load_trained(folder, base).variant.channels_last == lever
    assert load_trained(folder, base, channels_last=True).variant.channels_last
    with pytest.raises(MobiusError, match=r"trained cannot be loaded: spatial_dtype: Input should be "):
        load_trained(folder, base, spatial_dtype="float8")
    config["variant"]["of_a_later_version"] = True
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(MobiusError, match=r"trained cannot be loaded: of_a_later_version: Unexpected "):
        load_trained(folder, base)


def test_another_base_is_taken_on_request_only(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_trained(build_from_base(tiny.PARALLEL, base, seed=1), tmp_path / "trained", base)
    other = tiny.unet()
    with torch.no_grad():
        other.conv_in.weight.add_(1)
    other.save_pretrained(tmp_path / "other/unet")
    with pytest.raises(MobiusError, match=r"another base .*other_base=True"):
        load_trained(tmp_path / "trained", tmp_path / "other")
    with caplog.at_level(logging.WARNING):
        loaded = load_trained(tmp_path / "trained", tmp_path / "other", other_base=True)
    assert "was trained over another base (base)" in caplog.text
    torch.testing.assert_close(run(loaded), run(start_of(other)))


def test_weights_that_do_not_fit_are_named(base: Path, tmp_path: Path) -> None:
    save_trained(build_from_base(tiny.PARALLEL, base, seed=1), tmp_path / "trained", base)
    weights = load_file(tmp_path / "trained" / WEIGHTS)
    weights["fuse.conv.bias"] = torch.zeros(3)
    weights["strange"] = weights.pop("fuse.conv.weight")
    save_file(weights, tmp_path / "trained" / WEIGHTS)
    with pytest.raises(MobiusError) as error:
        load_trained(tmp_path / "trained", base)
    for part in ("missing: fuse.conv.weight", "unexpected: strange", "misshapen: fuse.conv.bias"):
        assert part in str(error.value)


def test_a_damaged_base_is_named(base: Path) -> None:
    weights_file = base / "unet" / WEIGHTS
    weights = load_file(weights_file)
    del weights["conv_in.weight"]
    save_file(weights, weights_file)
    with pytest.raises(MobiusError, match=r"conv_in\.weight"):
        load_base(base)
    weights_file.write_bytes(b"no safetensors")
    with pytest.raises(MobiusError, match=r"Cannot load .*unet as UNet2D"):
        load_base(base)
    config = json.loads((base / "unet" / CONFIG).read_text())
    (base / "unet" / CONFIG).write_text(json.dumps({**config, "_class_name": "Transformer"}))
    with pytest.raises(MobiusError, match="names the class Transformer"):
        load_base(base)
    with pytest.raises(MobiusError, match="Cannot read"):
        load_base(base / "nowhere")


def test_serial_over_a_video_base_is_the_video_model(video_base: Path) -> None:
    torch.testing.assert_close(run(build_from_base(Variant("serial"), video_base, seed=0)), run(video_unet()))


@pytest.mark.parametrize("variant", [tiny.PARALLEL, Variant("parallel", tail=6)], ids=str)
def test_parallel_over_a_video_base_starts_as_the_video_model(variant: Variant, video_base: Path) -> None:
    model = build_from_base(variant, video_base, seed=0)
    torch.testing.assert_close(run(model), run(video_unet()), rtol=0, atol=2e-6)
    assert not any("frozen." in name for name in trainable_parameters(model))


def test_what_was_trained_over_a_video_base_comes_back_alone(video_base: Path, tmp_path: Path) -> None:
    for variant in (tiny.PARALLEL, Variant("serial")):
        model = tiny.move(build_from_base(variant, video_base, seed=1))
        save_trained(model, tmp_path / variant.mode, video_base)
        assert load_file(tmp_path / variant.mode / WEIGHTS).keys() == trainable_parameters(model).keys()
        assert torch.equal(run(load_trained(tmp_path / variant.mode, video_base)), run(model))


def test_channels_last_takes_no_video_base(video_base: Path) -> None:
    with pytest.raises(MobiusError, match="channels_last: true cannot work over a text-to-video base"):
        build_from_base(replace(tiny.PARALLEL, channels_last=True), video_base, seed=0)


def test_sum_takes_no_video_base(video_base: Path) -> None:
    with pytest.raises(MobiusError, match="mode: sum takes a text-to-image base"):
        build_from_base(Variant("sum"), video_base, seed=0)


def test_a_tail_longer_than_the_decoder_is_refused(base: Path) -> None:
    with pytest.raises(MobiusError, match="tail: 5 is more than the 4 layers of the base's decoder"):
        build_from_base(Variant("parallel", tail=5), base, seed=0)


def as_first_release(folder: Path) -> None:
    """Write the variant as the first release did."""
    config = json.loads((folder / CONFIG).read_text())
    for name in ("tail", "blocks", "train_head"):
        del config["variant"][name]
    config["variant"] |= {"width": 1.0, "stream_spatial": False}
    (folder / CONFIG).write_text(json.dumps(config))


def test_a_serial_model_of_the_first_release_loads_and_a_parallel_one_is_refused(
    base: Path, tmp_path: Path
) -> None:
    model = tiny.move(build_from_base(Variant("serial"), base, seed=1))
    save_trained(model, tmp_path / "serial", base)
    as_first_release(tmp_path / "serial")
    assert torch.equal(run(load_trained(tmp_path / "serial", base)), run(model))
    save_trained(build_from_base(tiny.PARALLEL, base, seed=1), tmp_path / "parallel", base)
    as_first_release(tmp_path / "parallel")
    with pytest.raises(MobiusError, match=r"wiring of mobius-pipeline 0\.1, .*0\.1\.0"):
        load_trained(tmp_path / "parallel", base)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mode": "serial", "width": 0.5}, "no stream beside the base"),
        ({"mode": "serial", "tail": 2}, "no stream beside the base"),
        ({"mode": "serial", "spatial_dtype": "bfloat16"}, "gradients cross the spatial layers"),
        ({"mode": "sum", "compile_spatial": True}, "gradients cross the spatial layers"),
        ({"mode": "parallel"}, "no temporal layer to train"),
        ({"mode": "parallel", "width": 1.5}, "width\n  Input should be less than or equal to 1 "),
        ({"mode": "parallel", "tail": -1}, "tail\n  Input should be greater than or equal to 0 "),
        ({"mode": "parallel", "tail": 1, "tial": 2}, "tial\n  Unexpected keyword argument "),
        ({"mode": "parallel", "tail": 1, "blocks": "attention"}, "needs a stream"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Variant(**options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("torchao")
def test_int8_weights_are_close() -> None:
    from mobius_pipeline.models.factory import build_model

    exact = run(build_model(tiny.PARALLEL, tiny.unet(), seed=0))
    model = build_model(replace(tiny.PARALLEL, spatial_dtype="int8"), tiny.unet(), seed=0)
    error = (run(model) - exact).abs().max()
    assert 0 < error < 0.1 * exact.abs().max()
