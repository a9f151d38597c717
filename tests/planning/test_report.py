"""Test how a plan reports costs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mobius_pipeline.base_model.unet_config import latent_scale
from mobius_pipeline.planning.devices import Attained, Datasheet, from_datasheet
from mobius_pipeline.planning.model import Largest, LeverCost, Plan, Sizes
from mobius_pipeline.planning.predict import Cost
from mobius_pipeline.planning.report import build_plan, lever_table, plan_table, print_plan, smallest_fit
from mobius_pipeline.planning.roofline import Operation
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.planning.timing import Timing, duration
from mobius_pipeline.runtime.errors import MobiusError

GIB = 2**30


def cost(peak_gib: int) -> Cost:
    breakdown = {"weights": GIB, "gradients": 0, "optimizer": 0, "other": 0}
    return Cost(
        1000, 400, GIB, peak_gib * GIB, {**breakdown, "activations": (peak_gib - 1) * GIB}, peak_gib * 1e12
    )


def test_the_reserve_counts() -> None:
    assert smallest_fit(7 * GIB, (8, 12), reserve_gib=1) == 8
    assert smallest_fit(7 * GIB + 1, (12, 8), reserve_gib=1) == 12
    assert smallest_fit(12 * GIB, (8, 12), reserve_gib=1) is None


def test_report_is_json_and_compares() -> None:
    shape = StepShape(2, 8, 16, 16, 77)
    report = build_plan({"serial": cost(20), "parallel": cost(10)}, shape, (8, 16), 1.0)
    assert Plan.model_validate_json(report.model_dump_json()) == report
    assert report.parallel_over_serial.model_dump() == {"peak": 0.5, "flops": 0.5, "trainable": 1.0}
    assert report.modes["serial"].fits_gib == {8: False, 16: False}
    assert report.modes["parallel"].fits_gib == {8: False, 16: True}
    assert report.model_dump().keys() == {"step", "reserve_gib", "modes", "parallel_over_serial", "levers"}


def test_table_shows_both_modes() -> None:
    shape = StepShape(2, 8, 16, 16, 77)
    console = Console(width=100, record=True, quiet=False)
    with console.capture() as capture:
        report = build_plan({"serial": cost(20), "parallel": cost(10)}, shape, (8, 16), 1.0)
        console.print(plan_table(report))
    text = capture.get()
    for words in ("20.00 GiB", "10.00 GiB", "50%", "not even 16 GiB", "16 GiB or more"):
        assert words in text


def test_times_and_cost_are_shown_and_kept() -> None:
    device = from_datasheet(
        Datasheet(name="card", tflops_float32=1, tflops_tf32=1, tflops_bfloat16=1, gb_per_s=1, memory_gib=12),
        Attained(1.0, 1.0, 1.0, 1.0, least_s=0.0, issue_s=0.0, issue_cast_s=0.0),
    )
    serial = replace(cost(20), operations=(Operation("product", False, 36 * 10**11, 0),))  # 3.6 s
    parallel = replace(cost(10), operations=(Operation("product", False, 18 * 10**11, 0),))
    timing = Timing(device, steps=1000, price_per_hour=3.0)
    costs = {"serial": serial, "parallel": parallel}
    levers = {"serial autocast": serial}
    report = build_plan(costs, StepShape(2, 8, 16, 16, 77), (8, 16), 1.0, levers, timing)
    assert Plan.model_validate_json(report.model_dump_json()) == report
    times = [report.modes[mode].time for mode in costs]
    assert [time and time.hours for time in times] == pytest.approx([1.0, 0.5])
    assert [time and time.cost for time in times] == pytest.approx([3.0, 1.5])
    assert [time and time.fits_device for time in times] == [False, True]
    assert report.parallel_over_serial.hours == pytest.approx(0.5)
    longer = Timing(device, steps=1000, equal_compute=True).of(parallel, serial, "parallel", 1.0)
    assert (longer.steps, longer.cost) == (2000, None)
    console = Console(width=100)
    with console.capture() as capture:
        print_plan(report, console)
    text = capture.get()
    for words in ("3.60 s", "1.00 h", "30.0 min", "cost at 3 per hour", "fits its 12 GiB", "card"):
        assert words in text
    assert "…" not in text
    assert text.count("serial autocast") == 2  # uncut, in the tables of memory and of time


@pytest.mark.parametrize(
    ("hours", "shown"),
    [
        (1 / 3600, "1.00 s"),
        (0.1, "6.00 min"),
        (1, "1.00 h"),
        (71, "71.0 h"),
        (72, "3.00 days"),
        (24_000, "1,000 days"),
    ],
)
def test_durations_are_in_plain_units(hours: float, shown: str) -> None:
    assert duration(hours) == shown


def test_levers_fit_a_narrow_terminal() -> None:
    modes = {"serial": cost(20), "parallel": cost(10)}
    report = build_plan(modes, StepShape(2, 8, 16, 16, 77), (8, 16), 1.0)
    long = "parallel checkpoint_temporal, half width"
    sizes = {"static_bytes": GIB, "activation_bytes": 19 * GIB, "peak_bytes": 20 * GIB}
    lever = LeverCost(parameters=1000, trainable=400, flops=2e13, **sizes)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(lever_table(report.model_copy(update={"levers": {long: lever}})))
    assert "…" not in capture.get()
    assert "20.00" in capture.get()


def test_where_nothing_fits_it_says_so() -> None:
    shape = StepShape(2, 8, 16, 16, 77)
    sizes = {"serial": Sizes(batch=0, frames=0), "parallel": Sizes(batch=4, frames=16)}
    largest = Largest(memory_gib=4, modes=sizes)
    costs = {"serial": cost(20), "parallel": cost(10)}
    report = build_plan(costs, shape, (8, 16), 1.0, largest=largest)
    console = Console(width=120)
    with console.capture() as capture:
        print_plan(report, console)
    assert "serial in 4 GiB: no clip of 8 frames, nor 2 clips of one" in capture.get()
    assert "parallel in 4 GiB: up to 4 clips of 8 frames, or 2 clips of up to 16 frames" in capture.get()


def test_a_missing_base_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="pipelines=base"):
        latent_scale(tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text("[1]")
    with pytest.raises(MobiusError, match="not a JSON object"):
        latent_scale(tmp_path)


def test_scale_of_a_latent_cell(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps({"block_out_channels": [128, 256, 512, 512]}))
    assert latent_scale(tmp_path) == 8
