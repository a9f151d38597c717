"""Make a plan from predicted costs, and format it as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mobius_pipeline.planning.levers import LEVERS, PlannedMode
from mobius_pipeline.planning.model import Largest, LeverCost, ModeCost, Plan, Ratios, StepCost, Time, TimedOn
from mobius_pipeline.planning.predict import Cost
from mobius_pipeline.planning.roofline import Device
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.planning.timing import Timing, duration, interval, money
from mobius_pipeline.runtime.units import GIB, size

_Row = tuple[str, list[str], float | None]  # label, one cell per mode, ratio of parallel to serial


def work(flops: float) -> str:
    """Format FLOPs in GFLOP or TFLOP."""
    return f"{flops / 1e12:.2f} TFLOP" if flops >= 1e12 else f"{flops / 1e9:.2f} GFLOP"


def smallest_fit(peak_bytes: int, memory_gib: Sequence[int], reserve_gib: float) -> int | None:
    """Return the smallest memory in GiB that holds both the peak and the reserve; None if none does."""
    return min((size for size in memory_gib if peak_bytes <= (size - reserve_gib) * GIB), default=None)


def build_plan(
    costs: Mapping[PlannedMode, Cost],
    shape: StepShape,
    memory_gib: Sequence[int],
    reserve_gib: float,
    levers: Mapping[str, Cost] | None = None,
    timing: Timing | None = None,
    largest: Largest | None = None,
) -> Plan:
    """Return the plan of a step: costs of modes and levers, ratios and, with `timing`, hours."""

    def time(cost: Cost, mode: PlannedMode) -> Time | None:
        return None if timing is None else timing.of(cost, costs["serial"], mode, reserve_gib)

    def fit(cost: Cost) -> int | None:
        return smallest_fit(cost.peak_bytes, memory_gib, reserve_gib)

    modes = {mode: _mode(cost, fit(cost), memory_gib, time(cost, mode)) for mode, cost in costs.items()}
    return Plan(
        step=shape,
        reserve_gib=reserve_gib,
        modes=modes,
        parallel_over_serial=ratios(modes["parallel"], modes["serial"]),
        levers={
            name: _lever(cost, fit(cost), time(cost, LEVERS[name].mode))
            for name, cost in (levers or {}).items()
        },
        timing=None if timing is None else timing.about,
        largest=largest,
    )


def ratios(parallel: ModeCost, serial: ModeCost) -> Ratios:
    """Return parallel's cost as a multiple of serial's."""
    times = {}
    if parallel.time is not None and serial.time is not None:
        times = {
            "step_s": parallel.time.step_s / serial.time.step_s,
            "hours": parallel.time.hours / serial.time.hours,
        }
    return Ratios(
        peak=parallel.peak_bytes / serial.peak_bytes,
        flops=parallel.flops / serial.flops,
        trainable=parallel.trainable / serial.trainable,
        **times,
    )


def _mode(cost: Cost, fit: int | None, memory_gib: Sequence[int], time: Time | None) -> ModeCost:
    return ModeCost(
        **_figures(cost),
        time=time,
        breakdown=cost.breakdown,
        predicted_peak_gib=cost.peak_bytes / GIB,
        fits_gib={size: fit is not None and size >= fit for size in memory_gib},
    )


def _lever(cost: Cost, fit: int | None, time: Time | None) -> LeverCost:
    """Return a lever's cost without details, so that DVC's table of metrics stays readable."""
    activations = cost.breakdown["activations"]
    return LeverCost(**_figures(cost), time=time, activation_bytes=activations, smallest_fit_gib=fit)


def _figures(cost: Cost) -> dict[str, Any]:
    """Return the figures that `StepCost` has."""
    return {name: value for name, value in vars(cost).items() if name in StepCost.model_fields}


def print_plan(plan: Plan, console: Console) -> None:
    """Print the tables of modes, levers and times, and the largest sizes if they were searched."""
    console.print(plan_table(plan))
    console.print(lever_table(plan))
    if plan.timing is not None:
        console.print(time_table(plan, plan.timing))
    console.print(
        "VAE and text encoder are not counted: training reads cached latents and does not load them."
    )
    if plan.timing is not None:
        console.print(timing_note(plan.timing.device), soft_wrap=False, markup=False)
    if plan.largest is not None:
        _print_largest(plan.largest, plan.step, console)


def _print_largest(largest: Largest, step: StepShape, console: Console) -> None:
    frames, clips = step.frames, f"{step.batch} {'clip' if step.batch == 1 else 'clips'}"
    for mode, most in largest.modes.items():
        many = f"up to {most.batch} clips" if most.batch else "no clip"
        long = f"or {clips} of up to {most.frames} frames" if most.frames else f"nor {clips} of one"
        console.print(f"{mode} in {largest.memory_gib:g} GiB: {many} of {frames} frames, {long}")


def lever_table(plan: Plan) -> Table:
    """Return the table of costs: one row per mode, then one per lever."""
    rows: dict[str, LeverCost] = {
        **{name: _as_lever(mode) for name, mode in plan.modes.items()},
        **plan.levers,
    }
    most_bytes = max(row.peak_bytes for row in rows.values())
    most_flops = max(row.flops for row in rows.values())
    memory, of_memory = ("GiB", GIB) if most_bytes >= GIB else ("MiB", 2**20)
    work_unit, of_work = ("TFLOP", 1e12) if most_flops >= 1e12 else ("GFLOP", 1e9)
    table = Table(title=f"Each memory lever on its own; memory in {memory}")
    table.add_column("", overflow="fold")  # narrow terminals wrap the names and not the numbers
    for name in ("trained", "static", "activations", "peak", work_unit, "fits in GiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row.trainable / 1e6:.2f} M",
            *(f"{part / of_memory:.2f}" for part in (row.static_bytes, row.activation_bytes, row.peak_bytes)),
            f"{row.flops / of_work:.2f}",
            str(row.smallest_fit_gib or "none"),
        )
    return table


def time_table(plan: Plan, timing: TimedOn) -> Table:
    """Return the table of times: hours, cost and fit for each mode and lever, one row each."""
    memory, price = timing.device.memory_bytes, timing.price_per_hour
    titles = ["per step", "steps", "all steps"]
    titles += [] if price is None else ["cost"]
    titles += [] if memory is None else [f"fits its {memory / GIB:.0f} GiB"]
    table = Table("", title=f"Time on {timing.device.name}")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for rows in (plan.modes, plan.levers):
        for name, row in rows.items():
            if row.time is not None:
                table.add_row(name, *_time_cells(row.time))
    return table


def _time_cells(time: Time) -> list[str]:
    """Return step time, steps and hours and, where they are known, cost and fit."""
    cells = [interval(time.step_s), f"{time.steps:,}", duration(time.hours)]
    cells += [] if time.cost is None else [money(time.cost)]
    return cells + ([] if time.fits_device is None else ["yes" if time.fits_device else "no"])


def _as_lever(mode: ModeCost) -> LeverCost:
    fitting = [gib for gib, enough in mode.fits_gib.items() if enough]
    return LeverCost(
        **mode.model_dump(include=set(StepCost.model_fields)),
        activation_bytes=mode.breakdown["activations"],
        smallest_fit_gib=min(fitting, default=None),
    )


def plan_table(plan: Plan) -> Table:
    """Return the plan as a table: one column per mode, then parallel relative to serial."""
    step, modes = plan.step, list(plan.modes.values())
    clips = f"{step.batch} clips, latents {step.frames} x {step.height} x {step.width}"
    table = Table("", *plan.modes, "parallel / serial", title=f"One training step, predicted: {clips}")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = _rows(modes, plan.parallel_over_serial)
    if plan.timing is not None:
        rows += _time_rows(modes, plan.timing, plan.parallel_over_serial)
    for label, cells, ratio in rows:
        table.add_row(label, *cells, "" if ratio is None else f"{ratio:.0%}")
    return table


def _time_rows(modes: Sequence[ModeCost], timing: TimedOn, ratio: Ratios) -> list[_Row]:
    memory, price = timing.device.memory_bytes, timing.price_per_hour
    labels = [("time per step", ratio.step_s), ("steps", None), ("time of all steps", ratio.hours)]
    labels += [] if price is None else [(f"cost at {price:g} per hour", ratio.hours)]
    labels += [] if memory is None else [(f"fits its {memory / GIB:.0f} GiB", None)]
    columns = [_time_cells(mode.time) for mode in modes if mode.time is not None]
    return [
        (label, list(cells), share)
        for (label, share), cells in zip(labels, zip(*columns, strict=True), strict=True)
    ]


def timing_note(device: Device) -> str:
    """Return a note on what the times are based on and what they leave out."""
    return (
        f"Times are for one device, {device.name}, and are based on {device.basis}. They cover "
        "training steps only, without start, held-out losses, previews and checkpoints. A step that does not "
        "fit is timed as if it did."
    )


def _rows(modes: Sequence[ModeCost], ratio: Ratios) -> list[_Row]:
    """Return the rows of `plan_table`: label, one cell per mode, and the ratio to show."""
    rows: list[_Row] = [
        ("parameters", [f"{mode.parameters:,}" for mode in modes], None),
        ("trained", [f"{mode.trainable:,}" for mode in modes], ratio.trainable),
        ("work", [work(mode.flops) for mode in modes], ratio.flops),
        ("peak memory", [size(mode.peak_bytes) for mode in modes], ratio.peak),
    ]
    rows += [
        (f"  {category}", [size(mode.breakdown[category]) for mode in modes], None)
        for category in modes[0].breakdown
    ]
    return [*rows, ("fits", [_fits(mode.fits_gib) for mode in modes], None)]


def _fits(fits: Mapping[int, bool]) -> str:
    sizes = [size for size, enough in fits.items() if enough]
    return f"{min(sizes)} GiB or more" if sizes else f"not even {max(fits)} GiB"
