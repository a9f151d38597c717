"""Test times of single operations and of queues against values computed by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from mobius_pipeline.planning.operations import Operations
from mobius_pipeline.planning.roofline import Device, Operation, seconds

DEVICE = Device(
    name="made up",
    product=100.0,
    convolution=200.0,
    half=400.0,
    bandwidth=10.0,
    issue_s=0.0,
    issue_cast_s=0.0,
    least_s=0.0,
    queued=False,
    memory_bytes=None,
    basis="nothing",
)


def listed(run: Callable[[], object]) -> list[Operation]:
    with FakeTensorMode(), Operations() as operations:
        run()
    return operations.found


def zeros(*shape: int) -> Tensor:
    return torch.empty(shape)  # an allocation, which runs no kernel


def test_a_product() -> None:
    (product,) = listed(lambda: zeros(2, 3) @ zeros(3, 5))
    assert product == Operation("product", half=False, flops=2 * 2 * 3 * 5, nbytes=4 * (6 + 15 + 10))
    assert seconds([product], replace(DEVICE, bandwidth=1e9)) == 60 / 100  # arithmetic is the bottleneck
    assert seconds([product], DEVICE) == 124 / 10  # memory traffic is the bottleneck


def test_a_convolution_has_a_rate_of_its_own() -> None:
    (convolution,) = listed(lambda: functional.conv2d(zeros(1, 2, 4, 4), zeros(3, 2, 3, 3)))
    flops = 2 * 3 * (2 * 2) * (2 * 3 * 3)  # 3 channels of 2 x 2, each from 2 x 3 x 3 inputs
    assert convolution == Operation("convolution", half=False, flops=flops, nbytes=4 * (32 + 54 + 12))
    assert seconds([convolution], replace(DEVICE, bandwidth=1e9)) == flops / 200


def test_half_precision_has_a_rate_of_its_own() -> None:
    (product,) = listed(lambda: zeros(2, 3).new_empty(2, 3, dtype=torch.bfloat16) @ _half(3, 5))
    assert product == Operation("product", half=True, flops=60, nbytes=2 * (6 + 15 + 10))
    assert seconds([product], replace(DEVICE, bandwidth=1e9)) == 60 / 400


def _half(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16)


def test_an_addition_reads_two_and_writes_one() -> None:
    (addition,) = listed(lambda: zeros(5) + zeros(5))
    assert addition == Operation("movement", half=False, flops=0, nbytes=3 * 20)
    (in_place,) = listed(lambda: zeros(5).add_(zeros(5)))
    assert in_place == addition


def test_an_operation_on_lists_that_returns_nothing_writes_them() -> None:
    (addition,) = listed(lambda: torch._foreach_add_([zeros(5), zeros(3)], 1.0))
    assert addition.nbytes == 2 * (20 + 12)


def test_what_is_overwritten_is_not_read() -> None:
    (copy,) = listed(lambda: zeros(5).copy_(zeros(5)))
    assert copy.nbytes == 2 * 20


def test_views_and_allocations_take_no_time() -> None:
    assert listed(lambda: zeros(4, 6).view(24).reshape(2, 12).t()[1:].unsqueeze(0).detach()) == []


def test_an_expanded_tensor_is_read_once() -> None:
    (addition,) = listed(lambda: zeros(4, 5) + zeros(1, 5).expand(4, 5))
    assert addition.nbytes == 4 * (20 + 5 + 20)


def test_a_cast_is_named() -> None:
    (cast,) = listed(lambda: zeros(5).bfloat16())
    assert cast == Operation("cast", half=False, flops=0, nbytes=20 + 10)


SHORT = [Operation("movement", False, 0, 10)] * 4  # a second each


@pytest.mark.parametrize(
    ("issue_s", "queued", "expected"),
    [
        (0.0, True, 4.0),
        (0.5, True, 4.5),  # the device waits for the first to be issued; the others queue
        (3.0, True, 13.0),  # issuing is slower: the device waits for each
        (3.0, False, 16.0),  # without a queue the host also waits for each
    ],
)
def test_the_slower_of_issuing_and_running(issue_s: float, queued: bool, expected: float) -> None:
    assert seconds(SHORT, replace(DEVICE, issue_s=issue_s, queued=queued)) == expected


def test_a_queue_catches_up() -> None:
    long_first = [Operation("movement", False, 0, 100), *SHORT]
    device = replace(DEVICE, issue_s=3.0, queued=True)
    assert seconds(long_first, device) == 17.0  # ends at 3 + 10, 14, 15, 16 and 17, the last without waiting
    assert seconds(long_first[::-1], device) == 3 * 5 + 10


@pytest.mark.parametrize("rate", ["product", "convolution", "half", "bandwidth"])
def test_a_faster_device_takes_no_longer(rate: str) -> None:
    work = [
        Operation("product", False, 1000, 10),
        Operation("product", True, 1000, 10),
        Operation("convolution", False, 1000, 10),
        *SHORT,
    ]
    faster = replace(DEVICE, **{rate: 2 * getattr(DEVICE, rate)})
    assert seconds(work, faster) < seconds(work, DEVICE)
    assert seconds([*work, *work], DEVICE) == pytest.approx(2 * seconds(work, DEVICE))
