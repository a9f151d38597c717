"""What the method promises, for configurations drawn at random (DESIGN section 2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mobius_pipeline.models.factory import FramewiseUNet, build_model, trainable_parameters
from mobius_pipeline.models.frames import to_frames
from mobius_pipeline.models.spatial import spatial_features, time_embedding
from mobius_pipeline.models.variant import Variant

few = settings(max_examples=12, deadline=None, derandomize=True)  # a model each: seconds, not milliseconds


@dataclass(frozen=True)
class Case:
    """A T2I configuration and the size of what it is given."""

    unet: dict[str, Any]
    batch: int
    frames: int
    height: int
    width: int


@st.composite
def cases(draw: st.DrawFn, frames: int = 24) -> Case:
    levels = draw(st.integers(1, 3))
    attention = draw(st.lists(st.booleans(), min_size=levels, max_size=levels))
    heads = st.sampled_from([1, 2, 4])
    unet = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": tuple(draw(st.sampled_from([16, 24, 32])) for _ in range(levels)),
        "layers_per_block": draw(st.integers(1, 2)),
        "down_block_types": tuple("CrossAttnDownBlock2D" if own else "DownBlock2D" for own in attention),
        "up_block_types": tuple("CrossAttnUpBlock2D" if own else "UpBlock2D" for own in reversed(attention)),
        "cross_attention_dim": 12,
        "attention_head_dim": draw(heads | st.tuples(*[heads] * levels)),
        "norm_num_groups": 4,
        "use_linear_projection": draw(st.booleans()),
    }
    return Case(
        unet,
        batch=draw(st.integers(1, 3)),
        frames=draw(st.integers(1, frames)),
        height=draw(st.integers(3, 9)),
        width=draw(st.integers(3, 9)),
    )


ladders = st.builds(
    Variant, width=st.sampled_from([1.0, 0.5, 0.25, 0.125]), stream_spatial=st.booleans(),
    checkpoint_temporal=st.booleans(), channels_last=st.booleans(),
)  # fmt: skip
others = st.builds(Variant, mode=st.sampled_from(["serial", "sum"]), checkpoint_temporal=st.booleans())
variants = ladders | others


def t2i(case: Case) -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return UNet2DConditionModel(**case.unet)


def inputs(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (B, 4, F, H, W), timesteps (B,), text (B, 5, 12)."""
    source = torch.Generator().manual_seed(2)
    sample = torch.randn(case.batch, 4, case.frames, case.height, case.width, generator=source)
    steps = torch.randint(1000, (case.batch,), generator=source)
    return sample, steps, torch.randn(case.batch, 5, 12, generator=source)


def moved(model: nn.Module) -> nn.Module:
    """Away from the start, where nothing that is trained is zero."""
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=source, dtype=parameter.dtype))
    return model


def run(model: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
    prediction: Tensor = model(*arguments, return_dict=False)[0]
    return prediction


@given(cases(), variants)
@few
@torch.no_grad()
def test_step_zero_is_the_t2i_model(case: Case, variant: Variant) -> None:
    expected = run(FramewiseUNet(t2i(case)), inputs(case))
    actual = run(build_model(variant, t2i(case), seed=0), inputs(case))
    assert actual.shape == inputs(case)[0].shape
    assert (actual - expected).abs().max() <= 1e-5


@contextmanager
def saved_tensors() -> Iterator[list[Tensor]]:
    """Collect what autograd keeps for the way back."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


@given(cases(frames=4), ladders)
@few
def test_the_spatial_side_keeps_nothing_and_gets_no_gradient(case: Case, variant: Variant) -> None:
    model = moved(build_model(variant, t2i(case), seed=0))
    spatial = model.get_submodule("spatial")
    assert isinstance(spatial, UNet2DConditionModel)
    sample, steps, text = to_frames(*inputs(case))
    with saved_tensors() as kept:
        embedding = time_embedding(spatial, sample.requires_grad_(), steps)
        features = list(spatial_features(spatial, sample, embedding, text.requires_grad_()))
    assert kept == []
    assert not any(feature.requires_grad for feature in features)
    run(model, inputs(case)).square().mean().backward()
    assert all(parameter.grad is None for parameter in spatial.parameters())
    assert all(parameter.grad is not None for parameter in trainable_parameters(model).values())


@given(cases())
@few
@torch.no_grad()
def test_permuted_frames_permute_the_spatial_features(case: Case) -> None:
    unet = t2i(case).eval()
    sample, steps, text = inputs(case)
    order = torch.randperm(case.frames, generator=torch.Generator().manual_seed(4))

    def features(sample: Tensor) -> list[Tensor]:
        frames, spread, words = to_frames(sample, steps, text)
        embedding = time_embedding(unet, frames, spread)
        found = spatial_features(unet, frames, embedding, words)
        return [feature.unflatten(0, (case.batch, case.frames)) for feature in found]

    for straight, shuffled in zip(features(sample), features(sample[:, :, order]), strict=True):
        torch.testing.assert_close(straight[:, order], shuffled, rtol=1e-5, atol=1e-5)


def loss_in_float64(model: nn.Module, case: Case) -> Tensor:
    sample, steps, text = inputs(case)
    return run(model, (sample.double(), steps, text.double())).square().mean()


@given(cases(frames=4), variants)
@few
def test_gradients_are_the_finite_differences(case: Case, variant: Variant) -> None:
    model = moved(build_model(variant, t2i(case), seed=0).double())
    trained = trainable_parameters(model)
    source = torch.Generator().manual_seed(5)
    way = {name: torch.randn(p.shape, generator=source, dtype=p.dtype) for name, p in trained.items()}
    loss_in_float64(model, case).backward()
    slope = sum(float((trained[name].grad * way[name]).sum()) for name in trained)

    @torch.no_grad()
    def at(step: float) -> float:
        for name, parameter in trained.items():
            parameter.add_(way[name], alpha=step)
        value = float(loss_in_float64(model, case))
        for name, parameter in trained.items():
            parameter.sub_(way[name], alpha=step)
        return value

    step = 1e-6
    assert (at(step) - at(-step)) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-8)


@given(cases(frames=4), variants)
@few
def test_a_checkpointed_pass_agrees(case: Case, variant: Variant) -> None:
    results = []
    for checkpointing in (False, True):
        chosen = replace(variant, checkpoint_temporal=checkpointing)
        model = moved(build_model(chosen, t2i(case), seed=0).double())
        loss = loss_in_float64(model, case)
        loss.backward()
        results.append((loss, {name: p.grad for name, p in trainable_parameters(model).items()}))
    (plain, gradients), (recomputed, again) = results
    torch.testing.assert_close(plain, recomputed, rtol=1e-12, atol=1e-14)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, again[name], rtol=1e-10, atol=1e-13, msg=name)


def test_a_checkpointed_pass_keeps_less() -> None:
    case = Case(tiny_unet(), batch=1, frames=4, height=8, width=8)
    kept = {}
    for variant in (Variant("serial"), Variant("parallel"), Variant("sum")):
        for checkpointing in (False, True):
            chosen = replace(variant, checkpoint_temporal=checkpointing)
            model = build_model(chosen, t2i(case), seed=0)
            with saved_tensors() as tensors:
                run(model, inputs(case))
            own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
            storages = {
                tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors
            }
            kept[variant.mode, checkpointing] = sum(n for place, n in storages.items() if place not in own)
    for mode in ("serial", "parallel", "sum"):
        assert kept[mode, True] < 0.5 * kept[mode, False], (mode, kept)
    assert kept["parallel", False] < kept["serial", False]


def tiny_unet() -> dict[str, Any]:
    return {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",) * 2,
        "up_block_types": ("CrossAttnUpBlock2D",) * 2,
        "cross_attention_dim": 12,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
