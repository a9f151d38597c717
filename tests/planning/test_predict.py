"""Test that the predicted cost of a step is that of the real step."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import tiny
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.factory import build_model
from mobius_pipeline.models.variant import Mode, Variant
from mobius_pipeline.planning.equal import with_equal_compute
from mobius_pipeline.planning.levers import Recipe
from mobius_pipeline.planning.predict import (
    Cost,
    TrainingStep,
    measure_training,
    model_inputs,
    predict_flops,
    predict_training,
    training_step,
)
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.meters import CPU_ATTENTION, count_flops

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
SHAPE = StepShape(batch=2, frames=4, height=8, width=8, tokens=7)


RECIPES = {
    "serial": Recipe(Variant("serial")),
    "parallel": Recipe(tiny.PARALLEL),
    "tail alone": Recipe(Variant("parallel", tail=2)),
    "stream alone": Recipe(Variant("parallel", width=0.5)),
    "attention in space": Recipe(replace(tiny.PARALLEL, blocks="attention")),
    "trained head": Recipe(replace(tiny.PARALLEL, train_head=True)),
    "serial with trained head": Recipe(Variant("serial", train_head=True)),
    "sum": Recipe(Variant("sum")),
    "serial checkpointed": Recipe(Variant("serial", checkpoint_temporal=True)),
    "parallel checkpointed": Recipe(replace(tiny.PARALLEL, checkpoint_temporal=True)),
    "bfloat16 front": Recipe(replace(tiny.PARALLEL, spatial_dtype="bfloat16")),
    "serial autocast": Recipe(Variant("serial"), autocast=True),
    "parallel autocast": Recipe(tiny.PARALLEL, autocast=True),
}


def step_of(recipe: Recipe) -> TrainingStep:
    model = build_model(recipe.variant, UNet2DConditionModel.from_config(TINY), seed=0)
    return training_step(model, model_inputs(TINY, SHAPE), autocast=recipe.autocast)


@cache
def predicted(mode: Mode, shape: StepShape = SHAPE) -> Cost:
    return predict_training(TINY, tiny.variant(mode), shape)


def test_a_batch_in_parts_takes_less_memory_as_measured() -> None:
    """The batch is computed by gradient accumulation."""
    shape = replace(SHAPE, batch=4, parts=4)
    fake, whole = predicted("parallel", shape), predicted("parallel", replace(shape, parts=1))
    model = build_model(tiny.PARALLEL, UNet2DConditionModel.from_config(TINY), seed=0)
    real = measure_training(training_step(model, model_inputs(TINY, shape)))
    assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=0.05)
    assert fake.peak_bytes < whole.peak_bytes
    assert fake.flops == whole.flops == real.flops


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_prediction_equals_measurement(recipe: Recipe) -> None:
    fake = predict_training(TINY, recipe.variant, SHAPE, autocast=recipe.autocast, device="cpu")
    step = step_of(recipe)
    real = measure_training(step)
    assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=0.05)
    assert fake.static_bytes == real.static_bytes
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as torchs:
        step.run()
    assert fake.flops == count_flops(step.run) == torchs.get_total_flops()
    assert fake.flops == predict_flops(TINY, recipe.variant, SHAPE, autocast=recipe.autocast)
    assert (fake.parameters, fake.trainable) == (real.parameters, real.trainable)
    assert sum(fake.breakdown.values()) == fake.peak_bytes


class Float32Norms(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the types in which norms compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "group_norm" in str(func) or "layer_norm" in str(func):
            self.found.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_autocast_on_cuda_keeps_the_norms_in_float32(mode: Mode) -> None:
    """As measured on an H100 (docs/performance.md): 18% more than by the CPU's rules."""
    costs, kinds = {}, {}
    for device in ("cpu", "cuda"):
        with Float32Norms() as norms:
            costs[device] = predict_training(TINY, tiny.variant(mode), SHAPE, autocast=True, device=device)
        kinds[device] = norms.found
    assert torch.bfloat16 in kinds["cpu"]
    assert kinds["cuda"] == {torch.float32}
    plain = predicted(mode)
    assert costs["cpu"].peak_bytes < costs["cuda"].peak_bytes < plain.peak_bytes
    assert costs["cpu"].flops == costs["cuda"].flops == plain.flops


@pytest.mark.parametrize("recipe", ["serial checkpointed", "parallel checkpointed"])
def test_autocast_on_cuda_keeps_the_norms_in_float32_when_they_are_computed_again(recipe: str) -> None:
    with Float32Norms() as norms:
        predict_training(TINY, RECIPES[recipe].variant, SHAPE, autocast=True)
    assert norms.found == {torch.float32}


def test_without_ema_its_bytes_are_gone() -> None:
    with_ema = predicted("parallel")
    without = predict_training(TINY, tiny.PARALLEL, SHAPE, ema=False)
    assert with_ema.trainable == without.trainable
    assert with_ema.peak_bytes - without.peak_bytes == with_ema.static_bytes - without.static_bytes > 0


VIDEO = TINY | {
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_a_video_unet_is_planned_whole(mode: Mode) -> None:
    variant = tiny.variant(mode)
    real = measure_training(
        training_step(
            build_model(variant, UNet3DConditionModel.from_config(VIDEO), seed=0), model_inputs(VIDEO, SHAPE)
        )
    )
    fake, image = predict_training(VIDEO, variant, SHAPE), predicted(mode)
    assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=0.05)
    assert (fake.flops, fake.parameters, fake.trainable) == (real.flops, real.parameters, real.trainable)
    if mode == "parallel":  # the base's frozen temporal layers run, too
        assert fake.flops > image.flops
        assert fake.trainable == image.trainable


def test_int8_is_refused() -> None:
    with pytest.raises(MobiusError, match="cannot be predicted"):
        predict_training(TINY, replace(tiny.PARALLEL, spatial_dtype="int8"), SHAPE)


def test_static_bytes_are_weights_averages_and_two_moments() -> None:
    cost = predicted("parallel")
    least = 4 * (cost.parameters + 3 * cost.trainable)  # float32; blocks and step counts come on top
    assert least < cost.static_bytes < 1.5 * least


def test_more_frames_cost_more_activations_and_no_more_weights() -> None:
    short, long = predicted("parallel"), predicted("parallel", replace(SHAPE, frames=8))
    assert long.static_bytes == short.static_bytes
    assert long.breakdown["activations"] > 1.7 * short.breakdown["activations"]


def test_prediction_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    predicted.cache_clear()
    predicted("parallel")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("mode", "options", "longer"),
    [("serial", {}, False), ("parallel", {}, True), ("parallel", {"spatial_dtype": "int8"}, True)],
)
def test_a_mode_trains_until_it_has_spent_what_serial_spends(
    mode: Mode, options: dict[str, Any], longer: bool, tiny_store: Path, tiny_base: Path
) -> None:
    unet = json.loads((tiny_base / "unet/config.json").read_text())
    config, store = tiny.train_config(steps=20, equal_compute=True), LatentsStore(tiny_store)
    found = with_equal_compute(config, tiny.variant(mode, **options), Variant("serial"), unet, store)
    assert found.steps == 20
    assert (found.end > 20) == longer
    alone = config.model_copy(update={"equal_compute": False})
    assert with_equal_compute(alone, tiny.PARALLEL, Variant("serial"), unet, store) == alone
