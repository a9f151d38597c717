"""Properties of both modes: they start as the T2I model, and train only the temporal part."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import tiny
from mobius_pipeline.models.factory import build_model, start_of, trainable_parameters
from mobius_pipeline.models.layout import read_layout
from mobius_pipeline.models.serial import is_temporal
from mobius_pipeline.models.variant import Mode, Variant
from mobius_pipeline.runtime.errors import MobiusError

LAYOUTS = {
    "linear projections, heads per level": {},
    "as SD 1.x: one number of heads, 1x1 projections, a level without attention": {
        "attention_head_dim": 2,
        "use_linear_projection": False,
        "layers_per_block": 2,
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    },
}


def inputs(frames: int = 3, height: int = 5, width: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """(2, 4, F, H, W) latents, (2,) timesteps, (2, 6, 384) text."""
    source = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, frames, height, width, generator=source)
    return sample, torch.tensor([10, 900]), torch.randn(2, 6, 384, generator=source)


def run(model: nn.Module, *arguments: Tensor) -> Tensor:
    prediction: Tensor = model(*arguments, return_dict=False)[0]
    return prediction


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("mode", ["serial", "parallel"])
@torch.no_grad()
def test_starts_as_the_t2i_model(mode: Mode, layout: dict[str, object]) -> None:
    expected = run(start_of(tiny.unet(**layout)), *inputs())
    actual = run(build_model(tiny.variant(mode), tiny.unet(**layout), seed=3), *inputs())
    assert (actual - expected).abs().max() <= 1e-5
    if mode == "parallel":
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_trains_what_is_new_alone(mode: Mode) -> None:
    model = build_model(tiny.variant(mode), tiny.unet(), seed=3)
    # At the start only the zeroed outputs get gradients; later every temporal weight must.
    tiny.move(model)
    run(model, *inputs()).square().mean().backward()
    for name, parameter in model.named_parameters():
        temporal = is_temporal(name) if mode == "serial" else name.startswith(("stream.", "fuse.", "tail."))
        assert (parameter.grad is not None and bool(parameter.grad.any())) == temporal, name


@torch.no_grad()
def test_time_flows_once_trained() -> None:
    """After the start, a frame's prediction depends on the others: the stream is temporal."""
    sample, timestep, text = inputs()
    changed = sample.clone()
    changed[:, :, 2] += 1
    for mode in ("serial", "parallel"):
        model = build_model(tiny.variant(mode), tiny.unet(), seed=3)
        tiny.move(model)
        difference = run(model, sample, timestep, text) - run(model, changed, timestep, text)
        assert difference[:, :, 0].abs().max() > 1e-4, mode


def test_same_seed_same_weights() -> None:
    one, two, other = (build_model(tiny.PARALLEL, tiny.unet(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["stream.mid.0.space.conv1.weight"], other["stream.mid.0.space.conv1.weight"])


def test_refuses_a_unet_that_it_does_not_know() -> None:
    with pytest.raises(MobiusError, match="class_embed_type"):
        build_model(tiny.PARALLEL, tiny.unet(class_embed_type="timestep"), seed=0)


SD1: dict[str, object] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD2: dict[str, object] = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}


STREAMS = [Variant("parallel", tail=3, width=0.125), Variant("parallel", width=0.5, blocks="attention")]


@pytest.mark.parametrize("variant", [Variant("serial"), *STREAMS])
@pytest.mark.parametrize(
    ("config", "parameters"), [(SD1, 859_520_964), (SD2, 865_910_724)], ids=["1.x", "2.x"]
)
def test_builds_over_stable_diffusion(variant: Variant, config: dict[str, object], parameters: int) -> None:
    """At full size, without memory; the T2I UNets' parameter counts are those of the published models."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)  # the defaults are the layout of SD 1.x
        assert sum(parameter.numel() for parameter in unet.parameters()) == parameters
        model = build_model(variant, unet, seed=0)
    trained = sum(parameter.numel() for parameter in trainable_parameters(model).values())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters + trained
    assert (trained < 0.05 * parameters) == (variant.tail == 3)


@pytest.mark.parametrize("width", [0.125, 0.25, 0.5, 1.0])
def test_a_group_of_a_narrow_norm_has_two_channels(width: float) -> None:
    layout = read_layout(tiny.unet(norm_num_groups=8)).narrowed(width)
    assert all(count % layout.norm_groups == 0 for count in layout.channels)
    assert min(layout.channels) // layout.norm_groups >= 2
