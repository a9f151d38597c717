"""Test the keys of a plan's file, that it comes back from it, and that damaged files are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DatasetError
from test_report import cost

from damaged_json import write_damaged
from mobius_pipeline.pipelines.files import DocumentDataset
from mobius_pipeline.planning.devices import known_device
from mobius_pipeline.planning.model import Largest, Plan, Sizes
from mobius_pipeline.planning.report import build_plan
from mobius_pipeline.planning.roofline import Device, Operation
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.planning.timing import Timing

LARGEST = Largest(memory_gib=24.0, modes={"serial": Sizes(batch=4, frames=16)})
KNOWN = known_device("L40S")
NO_MEMORY = replace(KNOWN, memory_bytes=None, bandwidth=float("inf"))
WHOLE = {"step", "reserve_gib", "modes", "parallel_over_serial", "levers"}
TIME = {"step_s", "steps", "hours"}


def example(device: Device | None, largest: Largest | None = None, price: float | None = None) -> Plan:
    one = replace(cost(10), operations=(Operation("product", False, 10**13, 0),))
    timing = None if device is None else Timing(device, steps=1000, price_per_hour=price)
    shape, levers = StepShape(2, 8, 16, 16, 77), {"serial autocast": one}
    return build_plan({"serial": one, "parallel": one}, shape, (8, 16), 1.0, levers, timing, largest)


def dataset(file: Path) -> DocumentDataset:
    return DocumentDataset(filepath=str(file), holds="mobius_pipeline.planning.model.Plan", made_by="plan")


@pytest.mark.parametrize(
    ("plan", "whole", "time"),
    [
        (example(None), WHOLE, None),
        (example(None, LARGEST), WHOLE | {"largest"}, None),
        (example(KNOWN), WHOLE | {"timing"}, TIME | {"fits_device"}),
        (example(NO_MEMORY, LARGEST, price=2.0), WHOLE | {"timing", "largest"}, TIME | {"cost"}),
    ],
)
def test_a_plan_has_the_keys_of_what_was_asked_and_comes_back_from_its_file(
    plan: Plan, whole: set[str], time: set[str] | None, tmp_path: Path
) -> None:
    saved = dataset(tmp_path / "plan.json")
    saved.save(plan)
    assert saved.load() == plan
    document = json.loads((tmp_path / "plan.json").read_text())
    assert document == plan.model_dump(mode="json")
    assert document.keys() == whole
    for row in (document["modes"]["parallel"], document["levers"]["serial autocast"]):
        assert (set(row["time"]) if "time" in row else None) == time
    assert ("hours" in document["parallel_over_serial"]) == (time is not None)
    assert document["modes"]["parallel"]["fits_gib"] == {"8": False, "16": True}


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (("step",), None, "step: Field required"),
        (("modes", "serial", "time", "hours"), None, "modes.serial.time.hours: Field required"),
        (("modes", "serial", "hours"), 1.0, "modes.serial.hours: Extra inputs"),
        (("modes", "sum"), {}, "modes.sum.[key]: Input should be 'serial' or 'parallel'"),
        (("timing", "device", "half"), "fast", "timing.device.half: Input should be a valid number"),
    ],
)
def test_a_damaged_file_names_the_place_and_what_makes_it_again(
    place: tuple[str, ...], value: Any, what: str, tmp_path: Path
) -> None:
    file = write_damaged(tmp_path / "plan.json", example(KNOWN), place, value)
    with pytest.raises(DatasetError) as raised:
        dataset(file).load()
    said = str(raised.value.__cause__)
    assert said.startswith(f"{file} cannot be used: {what}")
    assert said.endswith("Run `kedro run --pipelines=plan` to make it again.")
