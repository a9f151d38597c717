"""Test devices of the table and devices given by a datasheet."""

import pytest

from mobius_pipeline.planning.devices import (
    KNOWN,
    ON_H200,
    Datasheet,
    check_choice,
    from_datasheet,
    known_device,
)
from mobius_pipeline.runtime.errors import MobiusError

SHEET = Datasheet(tflops_float32=10, tflops_tf32=100, tflops_bfloat16=200, gb_per_s=1000)


def test_a_datasheet_is_attained_in_part() -> None:
    device = from_datasheet(SHEET)
    assert device.product == 1e13 * ON_H200.float32
    assert device.convolution == 1e14 * ON_H200.tf32
    assert device.half == 2e14 * ON_H200.bfloat16
    assert device.bandwidth == 1e12 * ON_H200.bandwidth
    assert device.queued


def test_convolutions_are_no_slower_than_products() -> None:
    device = from_datasheet(SHEET.model_copy(update={"tflops_tf32": 10}))
    assert device.convolution == device.product


@pytest.mark.parametrize("name", ["H100 SXM", "h100 sxm", "H100-SXM", "h100sxm"])
def test_names_are_forgiving(name: str) -> None:
    assert known_device(name).name == "H100 SXM"


def test_every_known_device_has_a_source() -> None:
    for name, known in KNOWN.items():
        assert known.source.startswith("https://")
        float32, tf32, bfloat16 = known.tflops
        assert float32 <= tf32 <= bfloat16
        assert known_device(name).memory_bytes == known.memory_gib * 2**30


def test_an_unknown_device_is_reported_with_the_known_ones() -> None:
    with pytest.raises(MobiusError, match="no device 'H1000'") as caught:
        check_choice("H1000", None)
    assert all(name in str(caught.value) for name in (*KNOWN, "here"))


def test_a_price_needs_a_device() -> None:
    with pytest.raises(MobiusError, match="needs a device"):
        check_choice(None, 2.0)
    check_choice(SHEET, 2.0)
    check_choice("here", 2.0)
    check_choice(None, None)
