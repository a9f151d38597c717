"""The meters against byte and FLOP counts computed by hand."""

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from mobius_pipeline.training.meters import (
    LiveMemory,
    StepMemory,
    StepTimer,
    count_flops,
    measure_step,
    rounded,
    tensor_bytes,
)

KIB = 1024


def small_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 4, 3))


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(inputs).square().mean().backward()
        optimizer.step()

    return step


def second_step(model: nn.Module, inputs: Tensor) -> StepMemory:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    step = step_of(model, optimizer, inputs)
    step()
    return measure_step(step, weights=model.parameters(), optimizer=optimizer, inputs=[inputs])


def test_sizes_round_up_to_the_allocators_block() -> None:
    assert [rounded(0), rounded(1), rounded(512), rounded(513)] == [0, 512, 512, 1024]


def test_shared_storages_count_once() -> None:
    tensor = torch.zeros(256)  # 1 KiB
    assert tensor_bytes([tensor, tensor[:3], tensor.view(16, 16), torch.zeros(1)]) == KIB + 512


def test_live_memory_follows_storages_to_their_end() -> None:
    with LiveMemory() as memory:
        first = torch.zeros(1024)  # 4 KiB
        view = first.view(32, 32)
        del first
        assert memory.current_bytes == 4 * KIB  # the view keeps it alive
        second = view + 1
        assert memory.current_bytes == 8 * KIB
        del view, second
        assert (memory.current_bytes, memory.peak_bytes) == (0, 8 * KIB)


def linear_step(rows: int) -> StepMemory:
    """A 64 x 128 layer: the weight and its doubles take 32 KiB each, an input row 1/4, an output row 1/2."""
    layer, inputs = nn.Linear(64, 128, bias=False), torch.ones(rows, 64)
    optimizer = torch.optim.AdamW(layer.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        layer(inputs).sum().backward()
        optimizer.step()

    step()
    return measure_step(step, weights=layer.parameters(), optimizer=optimizer, inputs=[inputs])


def test_adamw_step_to_the_byte() -> None:
    """Few rows: the peak is AdamW's, with sqrt(v) and the denominator beside m, v and the step count."""
    memory = linear_step(rows=32)
    assert memory.breakdown == {
        "weights": 32 * KIB,
        "gradients": 32 * KIB,
        "optimizer": 2 * 32 * KIB + 512 + 2 * 32 * KIB,
        "activations": 0,
        "other": 8 * KIB,
    }
    assert memory.peak_bytes == sum(memory.breakdown.values())


def test_forward_step_to_the_byte() -> None:
    """Many rows: the peak is where the outputs and their sum are alive, before there is a gradient."""
    memory = linear_step(rows=4096)
    assert memory.breakdown == {
        "weights": 32 * KIB,
        "gradients": 0,
        "optimizer": 2 * 32 * KIB + 512,
        "activations": 2048 * KIB + 512,
        "other": 1024 * KIB,
    }
    assert memory.peak_bytes == sum(memory.breakdown.values())


def test_activations_kept_for_backward_are_counted() -> None:
    """Three ReLUs keep their outputs (4 KiB each); the sum's 1-element result takes a block."""
    inputs = torch.ones(1024, requires_grad=True)
    with LiveMemory() as memory:
        loss = inputs.relu().relu().relu().sum()
        assert memory.current_bytes == 3 * 4 * KIB + 512
        del loss
    assert memory.current_bytes == 0


def test_no_grad_keeps_no_activations() -> None:
    model, inputs = small_model(), torch.ones(2, 4, 8, 8)
    with LiveMemory() as memory, torch.no_grad():
        outputs = model(inputs)
        assert memory.current_bytes == tensor_bytes([outputs])


def test_frozen_parameters_have_no_gradient() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained)
    # The last layer's gradients are created first and alive at any later peak: keep the step open at its end.
    held: list[Tensor] = []

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(torch.ones(2, 4, 8, 8)).square().mean().backward()
        held.append(torch.zeros(1_000_000))
        optimizer.step()

    memory = measure_step(step, weights=model.parameters(), optimizer=optimizer)
    assert memory.breakdown["gradients"] == tensor_bytes(trained)
    assert memory.breakdown["weights"] == tensor_bytes(model.parameters())


@pytest.mark.parametrize("size", [8, 21])
def test_fake_and_real_steps_agree_exactly(size: int) -> None:
    real = second_step(small_model(), torch.ones(2, 4, size, size))
    with FakeTensorMode():
        fake = second_step(small_model(), torch.ones(2, 4, size, size))
    assert fake == real
    assert real.breakdown["activations"] > 0


def test_states_made_during_the_step_count_as_optimizer() -> None:
    layer, inputs = nn.Linear(256, 256), torch.ones(1, 256)
    optimizer = torch.optim.AdamW(layer.parameters())
    memory = measure_step(step_of(layer, optimizer, inputs), weights=layer.parameters(), optimizer=optimizer)
    assert memory.breakdown["optimizer"] >= 2 * tensor_bytes(layer.parameters())


def test_flops_of_a_linear_layer_and_of_attention() -> None:
    layer, inputs = nn.Linear(64, 128, bias=False), torch.ones(32, 64)
    product = 2 * 32 * 64 * 128
    assert count_flops(lambda: layer(inputs).sum().backward()) == 2 * product  # forward, and dL/dweight
    query = torch.ones(2, 3, 10, 16, requires_grad=True)
    scores = 2 * (2 * 3) * 10 * 10 * 16
    forward_and_backward = (2 + 5) * scores
    assert (
        count_flops(lambda: F.scaled_dot_product_attention(query, query, query).sum().backward())
        == forward_and_backward
    )


def test_counting_a_checkpointed_step_takes_no_more_memory_and_agrees_with_torchs_counter() -> None:
    layers = nn.ModuleList(nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 64)) for _ in range(4))

    def step() -> None:
        hidden = torch.ones(512, 64, requires_grad=True)
        for layer in layers:
            hidden = checkpoint(layer, hidden, use_reentrant=False)
        hidden.sum().backward()
        layers.zero_grad(set_to_none=True)

    with LiveMemory() as plain:
        step()
    with LiveMemory() as counted:
        flops = count_flops(step)
    assert counted.peak_bytes == plain.peak_bytes
    with FlopCounterMode(display=False) as torchs:
        step()
    assert flops == torchs.get_total_flops()


def test_timer_leaves_warm_up_out_of_the_median_only() -> None:
    timer = StepTimer(warmup=1)
    for pause in (0.05, 0.0, 0.0):
        with timer:
            time.sleep(pause)
    assert timer.total_s >= 0.05 > timer.median_s
    assert StepTimer(seconds=[1.0, 2.0, 3.0, 4.0, 5.0]).iqr_s == (2.0, 4.0)


def test_timer_drops_a_step_that_failed() -> None:
    timer = StepTimer()
    with pytest.raises(RuntimeError), timer:
        raise RuntimeError
    assert timer.seconds == []
    assert timer.median_s != timer.median_s
