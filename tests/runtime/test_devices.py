"""Devices and levers that this machine lacks are refused with the reason."""

from dataclasses import replace

import pytest
import torch

import tiny
from mobius_pipeline.planning.levers import Recipe
from mobius_pipeline.runtime.devices import usable
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.capabilities import refuse_impossible


def test_the_cpu_is_there() -> None:
    assert usable("cpu") == "cpu"


def test_a_device_that_is_not_there_is_refused_when_the_configuration_is_read() -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=rf"device: {missing} cannot be used here \(.+\)\. Set device: cpu"):
        tiny.train_config(device=missing)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(MobiusError, match=r"device: gpu cannot be used here \(.*gpu"):
        usable("gpu")


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config, cpp_builder

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    cpp_builder.cpp_compiler_search.cache_clear()
    with pytest.raises(
        MobiusError, match=r"compile_spatial: true cannot work here \(.+\)\. Install a compiler"
    ):
        refuse_impossible(replace(tiny.PARALLEL, compile_spatial=True), None, "cpu")
    refuse_impossible(tiny.PARALLEL, "bfloat16", "cpu")


def test_two_formats_of_one_computation_are_refused() -> None:
    half = replace(tiny.PARALLEL, spatial_dtype="float16")
    for ask in (lambda: refuse_impossible(half, "bfloat16", "cpu"), lambda: Recipe(half, autocast=True)):
        with pytest.raises(MobiusError, match="Set spatial_dtype: bfloat16, or autocast: null"):
            ask()
    refuse_impossible(half, None, "cpu")
    refuse_impossible(replace(half, spatial_dtype="bfloat16"), "bfloat16", "cpu")
