"""Properties of the method, for random configurations."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from mobius_pipeline.models.factory import build_model, start_of, trainable_parameters
from mobius_pipeline.models.frozen import decoder, front_modules, frozen_features, time_embedding
from mobius_pipeline.models.layers import Conditioning
from mobius_pipeline.models.layout import BaseUNet
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.models.video_unet import spread

pytestmark = pytest.mark.slow

few = settings(max_examples=12, deadline=None, derandomize=True)  # each builds a model, for seconds


@dataclass(frozen=True)
class Case:
    """The configuration of a T2I or T2V base, and the size of its input."""

    unet: dict[str, Any]
    batch: int
    frames: int
    height: int
    width: int

    @property
    def is_video(self) -> bool:
        return any("3D" in name for name in self.unet["down_block_types"])

    @property
    def decoder_layers(self) -> int:
        return len(self.unet["block_out_channels"]) * (self.unet["layers_per_block"] + 1)


@st.composite
def cases(draw: st.DrawFn, frames: int = 24, fewest: int = 1) -> Case:
    levels, kind = draw(st.integers(1, 3)), draw(st.sampled_from(["2D", "3D"]))
    attention = draw(st.lists(st.booleans(), min_size=levels, max_size=levels))
    down = {True: f"CrossAttnDownBlock{kind}", False: f"DownBlock{kind}"}
    up = {True: f"CrossAttnUpBlock{kind}", False: f"UpBlock{kind}"}
    unet = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": tuple(draw(st.sampled_from([16, 24, 32])) for _ in range(levels)),
        "layers_per_block": draw(st.integers(1, 2)),
        "down_block_types": tuple(down[own] for own in attention),
        "up_block_types": tuple(up[own] for own in reversed(attention)),
        "cross_attention_dim": 12,
        "norm_num_groups": 4,
        "downsample_padding": draw(st.integers(0, 1)),
    }
    if kind == "2D":
        heads = st.sampled_from([1, 2, 4])
        unet["attention_head_dim"] = draw(heads | st.tuples(*[heads] * levels))
        unet["use_linear_projection"] = draw(st.booleans())
    else:
        unet["attention_head_dim"] = draw(st.sampled_from([4, 8]))
    smallest = 3 if unet["downsample_padding"] else 8  # unpadded, three cells become one and one none
    return Case(
        unet,
        batch=draw(st.integers(1, 3)),
        frames=draw(st.integers(fewest, frames)),
        height=draw(st.integers(smallest, 9)),
        width=draw(st.integers(smallest, 9)),
    )


@st.composite
def parallel(draw: st.DrawFn, case: Case) -> Variant:
    """Any tail of the case's decoder with any stream."""
    tail = draw(st.integers(0, case.decoder_layers))
    width = draw(st.sampled_from([1.0, 0.5, 0.25, 0.125, 0.0][: 5 if tail else 4]))
    return Variant(
        "parallel",
        tail=tail,
        width=width,
        blocks=draw(st.sampled_from(["resnet", "attention"])) if width else "resnet",
        train_head=draw(st.booleans()),
        checkpoint_temporal=draw(st.booleans()),
        channels_last=not case.is_video and draw(st.booleans()),
    )


@st.composite
def parallel_cases(draw: st.DrawFn, frames: int = 24, fewest: int = 1) -> tuple[Case, Variant]:
    case = draw(cases(frames, fewest))
    return case, draw(parallel(case))


@st.composite
def any_cases(draw: st.DrawFn, frames: int = 24) -> tuple[Case, Variant]:
    case = draw(cases(frames))
    modes = ["serial", "parallel"] if case.is_video else ["serial", "parallel", "sum"]
    mode = draw(st.sampled_from(modes))
    if mode == "parallel":
        return case, draw(parallel(case))
    return case, Variant(mode, train_head=draw(st.booleans()), checkpoint_temporal=draw(st.booleans()))


def base_of(case: Case) -> BaseUNet:
    """The base of a case; the temporal layers of a T2V base are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet: BaseUNet = (UNet3DConditionModel if case.is_video else UNet2DConditionModel)(**case.unet)
        if case.is_video:
            with torch.no_grad():
                for parameter in unet.parameters():
                    parameter.add_(0.03 * torch.randn_like(parameter))
    return unet


def inputs(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (B, 4, F, H, W), timesteps (B,), text (B, 5, 12)."""
    source = torch.Generator().manual_seed(2)
    sample = torch.randn(case.batch, 4, case.frames, case.height, case.width, generator=source)
    steps = torch.randint(1000, (case.batch,), generator=source)
    return sample, steps, torch.randn(case.batch, 5, 12, generator=source)


def run(model: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
    prediction: Tensor = model(*arguments, return_dict=False)[0]
    return prediction


@given(any_cases())
@few
@torch.no_grad()
def test_step_zero_is_the_base(drawn: tuple[Case, Variant]) -> None:
    """Use float64: kernels round by memory layout, everything else is exact."""
    case, variant = drawn
    sample, steps, text = inputs(case)
    given = sample.double(), steps, text.double()
    expected = run(start_of(base_of(case).double()), given)
    actual = run(build_model(variant, base_of(case), seed=0).double(), given)
    assert actual.shape == sample.shape
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


_LAST = (".space.conv2.", ".conv4.3.", ".proj_out.")  # the last layer of each kind of branch


@given(parallel_cases(frames=4, fewest=2))
@few
def test_every_branch_gets_a_gradient_at_once_and_everything_in_the_second_step(
    drawn: tuple[Case, Variant],
) -> None:
    """Use two frames or more: attention over a single frame is 1 for all queries and keys."""
    case, variant = drawn
    model = build_model(variant, base_of(case), seed=0).train()
    trained = trainable_parameters(model)
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)

    def without_gradient() -> set[str]:
        return {name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()}

    run(model, inputs(case)).square().mean().backward()
    branches = [name for name in trained if any(last in name for last in _LAST)]
    assert branches
    assert not without_gradient() & set(branches)
    optimizer.step()
    optimizer.zero_grad()
    run(model, inputs(case)).square().mean().backward()
    assert without_gradient() == set()


@contextmanager
def saved_tensors() -> Iterator[list[Tensor]]:
    """Collect the tensors that autograd keeps for the backward pass."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def features_of(base: BaseUNet, case: Case, sample: Tensor, tail: int = 0) -> list[Tensor]:
    """Every feature that a base yields for (B, 4, F, H, W)."""
    frames, steps, text = spread(sample, *inputs(case)[1:])
    conditioning = Conditioning(time_embedding(base, steps, case.frames), text, case.frames)
    return list(frozen_features(base, frames, conditioning, tail=tail, skips=[]))


@given(parallel_cases(frames=4))
@few
def test_the_front_keeps_nothing_and_the_frozen_base_gets_no_gradient(drawn: tuple[Case, Variant]) -> None:
    case, variant = drawn
    model = tiny.move(build_model(variant, base_of(case), seed=0))
    base: Any = model.get_submodule("frozen")
    sample = inputs(case)[0].requires_grad_()
    with saved_tensors() as kept:
        features = features_of(base, case, sample, variant.tail)
    assert not any(tensor.ndim == 4 and tensor.shape[0] != sample.shape[0] for tensor in kept)
    assert not any(feature.requires_grad for feature in features)
    run(model, inputs(case)).square().mean().backward()
    trained = trainable_parameters(model)
    heads = {name for name in trained if name.startswith("frozen.")}
    assert all(name.startswith(("frozen.conv_norm_out.", "frozen.conv_out.")) for name in heads)
    assert bool(heads) == variant.train_head
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name


@given(cases(frames=4))
@few
def test_front_and_tail_are_the_whole_base(case: Case) -> None:
    base = base_of(case)
    steps, own = decoder(base), {id(module) for module in front_modules(base, 0)}
    assert len(steps) == case.decoder_layers
    for tail in range(len(steps) + 1):
        front = {id(module) for module in front_modules(base, tail)}
        behind = {id(module) for step in steps[len(steps) - tail :] for module in step.modules}
        assert front | behind == own
        shared = front & behind  # the upsampler before the tail runs in the front
        assert shared <= {id(steps[-tail].upsampler)} if tail else not shared


@given(cases().filter(lambda case: not case.is_video))
@few
@torch.no_grad()
def test_permuted_frames_permute_the_features_of_a_t2i_base(case: Case) -> None:
    unet, sample = base_of(case).eval(), inputs(case)[0]
    order = torch.randperm(case.frames, generator=torch.Generator().manual_seed(4))

    def by_frame(sample: Tensor) -> list[Tensor]:
        return [one.unflatten(0, (case.batch, case.frames)) for one in features_of(unet, case, sample)]

    for straight, shuffled in zip(by_frame(sample), by_frame(sample[:, :, order]), strict=True):
        torch.testing.assert_close(straight[:, order], shuffled, rtol=1e-5, atol=1e-5)


def loss_in_float64(model: nn.Module, case: Case) -> Tensor:
    sample, steps, text = inputs(case)
    return run(model, (sample.double(), steps, text.double())).square().mean()


@given(any_cases(frames=4))
@few
def test_gradients_are_the_finite_differences(drawn: tuple[Case, Variant]) -> None:
    case, variant = drawn
    model = tiny.move(build_model(variant, base_of(case), seed=0).double())
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


@given(any_cases(frames=4))
@few
def test_a_checkpointed_pass_agrees(drawn: tuple[Case, Variant]) -> None:
    case, variant = drawn
    results = []
    for checkpointing in (False, True):
        chosen = replace(variant, checkpoint_temporal=checkpointing)
        model = tiny.move(build_model(chosen, base_of(case), seed=0).double())
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
    tail, stream = Variant("parallel", tail=2), Variant("parallel", width=0.5)
    variants = {"serial": Variant("serial"), "tail": tail, "stream": stream, "sum": Variant("sum")}
    for mode, variant in variants.items():
        for checkpointing in (False, True):
            chosen = replace(variant, checkpoint_temporal=checkpointing)
            model = build_model(chosen, base_of(case), seed=0)
            with saved_tensors() as tensors:
                run(model, inputs(case))
            own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
            storages = {
                tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors
            }
            kept[mode, checkpointing] = sum(n for place, n in storages.items() if place not in own)
    for mode in variants:
        assert kept[mode, True] < 0.5 * kept[mode, False], (mode, kept)
    assert max(kept["tail", False], kept["stream", False]) < kept["serial", False]


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
