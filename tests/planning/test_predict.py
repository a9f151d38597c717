"""The fake step costs what the real one does."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from mobius_pipeline.models.factory import build_model
from mobius_pipeline.models.variant import Mode, Variant
from mobius_pipeline.planning.predict import (
    Cost,
    StepShape,
    measure_training,
    model_inputs,
    predict_training,
    training_step,
)

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
MODES: tuple[Mode, ...] = ("serial", "parallel")


def measured(mode: Mode) -> Cost:
    model = build_model(Variant(mode), UNet2DConditionModel.from_config(TINY), seed=0)
    return measure_training(training_step(model, model_inputs(TINY, SHAPE)))


@cache
def predicted(mode: Mode, shape: StepShape = SHAPE) -> Cost:
    return predict_training(TINY, Variant(mode), shape)


@pytest.mark.parametrize("mode", MODES)
def test_prediction_equals_measurement(mode: Mode) -> None:
    fake, real = predicted(mode), measured(mode)
    assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=0.05)
    assert fake.static_bytes == real.static_bytes
    assert fake.flops == real.flops
    assert (fake.parameters, fake.trainable) == (real.parameters, real.trainable)
    assert sum(fake.breakdown.values()) == fake.peak_bytes


def test_static_bytes_are_weights_averages_and_two_moments() -> None:
    cost = predicted("parallel")
    least = 4 * (cost.parameters + 3 * cost.trainable)  # float32; blocks and step counts come on top
    assert least < cost.static_bytes < 1.2 * least


def test_more_frames_cost_more_activations_and_no_more_weights() -> None:
    short, long = predicted("parallel"), predicted("parallel", replace(SHAPE, frames=8))
    assert long.static_bytes == short.static_bytes
    assert long.breakdown["activations"] > 1.7 * short.breakdown["activations"]


def test_prediction_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    predicted.cache_clear()
    predicted("parallel")
    assert torch.equal(torch.get_rng_state(), before)
