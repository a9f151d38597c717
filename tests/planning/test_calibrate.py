"""Test the rates measured on this machine, with small operations."""

import pytest
import torch

from mobius_pipeline.planning.calibrate import Calls, chosen_device, measured_device
from mobius_pipeline.planning.devices import Datasheet, known_device
from mobius_pipeline.planning.roofline import seconds
from mobius_pipeline.runtime.errors import MobiusError

SHEET = Datasheet(tflops_float32=1, tflops_tf32=1, tflops_bfloat16=1, gb_per_s=1)


def small_work() -> Calls:
    """List two distinct products, one of them run twice, a convolution and an addition."""
    with Calls() as calls:
        for size in (64, 64, 32):
            torch.zeros(size, size) @ torch.zeros(size, size)
        torch.nn.functional.conv2d(torch.zeros(1, 4, 16, 16), torch.zeros(4, 4, 3, 3))
        torch.zeros(1000) + 1.0
    return calls


def test_distinct_calls_are_counted() -> None:
    calls = small_work()
    products = [call for call in calls.distinct if call.operation.kind == "product"]
    assert sorted((call.operation.flops, call.times) for call in products) == [(2 * 32**3, 1), (2 * 64**3, 2)]
    assert sum(call.times for call in calls.distinct) == len(calls.found)


@pytest.mark.slow
def test_a_measured_device_has_rates_of_this_machine() -> None:
    calls = small_work()
    device = measured_device(calls.distinct, "cpu")
    for rate in (device.product, device.convolution, device.half, device.bandwidth):
        assert 1e5 < rate < 1e15
    assert 1e-7 < device.issue_s < 1
    assert not device.queued
    assert "CPU" in device.name
    assert 0 < seconds(calls.found, device) < 60


def test_what_is_measured_takes_the_same_arguments() -> None:
    (call,) = [call for call in small_work().distinct if call.operation.kind == "convolution"]
    assert call.on(torch.device("cpu"))().shape == (1, 4, 14, 14)  # type: ignore[attr-defined]


def test_only_this_machine_is_measured() -> None:
    def never() -> list[object]:
        raise AssertionError

    assert chosen_device("L40S", never, "cpu") == known_device("L40S")  # type: ignore[arg-type]
    assert chosen_device(SHEET, never, "cpu").name == "your device"  # type: ignore[arg-type]


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(MobiusError, match="cannot be used here"):
        chosen_device("here", list, "cuda:99")
