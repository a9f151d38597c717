"""Optimiser states in 8 bits, intact and damaged."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.optimizer import build_optimizer
from mobius_pipeline.training.state import load_tensors, tensors_of

pytestmark = pytest.mark.usefixtures("torchao")

Training = tuple[dict[str, nn.Parameter], EMAModel, torch.optim.Optimizer]
PARTS = [
    f"optimizer.big.{moment}.{part}"
    for moment in ("exp_avg", "exp_avg_sq")
    for part in ("codes", "scale", "qmap")
]
SMALL = ["optimizer.small.exp_avg", "optimizer.small.exp_avg_sq"]  # too small for 8 bits
STEPS = ["optimizer.big.step", "optimizer.small.step"]


def stepped() -> Training:
    """Return parameters after one step, with moments in 8 bits and with moments in 32 bits."""
    trained = {"big": nn.Parameter(torch.randn(64, 128)), "small": nn.Parameter(torch.randn(10))}
    optimizer = build_optimizer(trained.values(), state_bits=8, lr=1e-3)
    for parameter in trained.values():
        parameter.grad = torch.ones_like(parameter)
    with torch.compiler.set_stance("force_eager"):
        optimizer.step()
    return trained, EMAModel(list(trained.values()), foreach=True), optimizer


def test_whole_ones_come_back() -> None:
    whole = tensors_of(*stepped())
    assert {*PARTS, *SMALL, *STEPS} < set(whole)
    other = stepped()
    load_tensors(whole, *other, "It does not fit")
    found = tensors_of(*other)
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("name", [*PARTS, *SMALL, *STEPS])
def test_a_missing_part_is_named(name: str) -> None:
    tensors = tensors_of(*stepped())
    del tensors[name]
    with pytest.raises(MobiusError, match=rf"It does not fit\. Optimiser states .*{name.split('.')[1]}"):
        load_tensors(tensors, *stepped(), "It does not fit")


@pytest.mark.parametrize("name", [*PARTS, *SMALL])
@pytest.mark.parametrize("harm", [lambda tensor: tensor[:1], lambda tensor: torch.cat([tensor, tensor])])
def test_a_part_of_another_size_is_named(name: str, harm: Callable[[Tensor], Tensor]) -> None:
    tensors: dict[str, Any] = tensors_of(*stepped())
    tensors[name] = harm(tensors[name])
    moment = ".".join(name.split(".")[1:3])
    with pytest.raises(MobiusError, match=rf"It does not fit\. Optimiser states .*{moment}"):
        load_tensors(tensors, *stepped(), "It does not fit")
