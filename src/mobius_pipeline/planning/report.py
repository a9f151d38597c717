"""Format a plan as JSON for the catalog and as tables for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from mobius_pipeline.planning.levers import LEVERS
from mobius_pipeline.planning.predict import Cost, StepShape
from mobius_pipeline.planning.timing import Timing, duration, interval, money
from mobius_pipeline.runtime.units import GIB, size


def work(flops: float) -> str:
    """Format FLOPs in GFLOP or TFLOP."""
    return f"{flops / 1e12:.2f} TFLOP" if flops >= 1e12 else f"{flops / 1e9:.2f} GFLOP"


def smallest_fit(peak_bytes: int, memory_gib: Sequence[int], reserve_gib: float) -> int | None:
    """Return the smallest memory in GiB that holds both the peak and the reserve; None if none does."""
    return min((size for size in memory_gib if peak_bytes <= (size - reserve_gib) * GIB), default=None)


def plan_report(
    costs: Mapping[str, Cost],
    shape: StepShape,
    memory_gib: Sequence[int],
    reserve_gib: float,
    levers: Mapping[str, Cost] | None = None,
    timing: Timing | None = None,
) -> dict[str, Any]:
    """Return the plan as a JSON-serialisable dictionary: the step, costs of modes and levers, and ratios.

    With `timing`, modes and levers also have the seconds of a step, and steps, hours and cost of a training.
    """
    levers = levers or {}
    report: dict[str, Any] = {
        "step": asdict(shape),
        "reserve_gib": reserve_gib,
        "modes": {mode: _mode_report(cost, memory_gib, reserve_gib) for mode, cost in costs.items()},
        "parallel_over_serial": ratios(costs["parallel"], costs["serial"]),
        "levers": {name: _lever_report(cost, memory_gib, reserve_gib) for name, cost in levers.items()},
    }
    if timing is not None:
        _add_times(report, costs, levers, timing)
    return report


def _add_times(
    report: dict[str, Any], costs: Mapping[str, Cost], levers: Mapping[str, Cost], timing: Timing
) -> None:
    serial = costs["serial"]
    report["timing"] = timing.about
    for mode, cost in costs.items():
        report["modes"][mode] |= timing.of(cost, serial, mode)
    for name, cost in levers.items():
        report["levers"][name] |= timing.of(cost, serial, LEVERS[name].mode)
    if (memory := timing.device.memory_bytes) is not None:
        for row in (*report["modes"].values(), *report["levers"].values()):
            row["fits_device"] = row["peak_bytes"] <= memory - report["reserve_gib"] * GIB
    for key in ("step_s", "hours"):
        share = report["modes"]["parallel"][key] / report["modes"]["serial"][key]
        report["parallel_over_serial"][key] = share


def ratios(parallel: Cost, serial: Cost) -> dict[str, float]:
    """Return parallel's peak, FLOPs and trained parameters as ratios to serial's."""
    return {
        "peak": parallel.peak_bytes / serial.peak_bytes,
        "flops": parallel.flops / serial.flops,
        "trainable": parallel.trainable / serial.trainable,
    }


def _mode_report(cost: Cost, memory_gib: Sequence[int], reserve_gib: float) -> dict[str, Any]:
    fit = smallest_fit(cost.peak_bytes, memory_gib, reserve_gib)
    fits = {str(size): fit is not None and size >= fit for size in memory_gib}
    figures = {name: value for name, value in vars(cost).items() if name != "operations"}
    return {**figures, "predicted_peak_gib": cost.peak_bytes / GIB, "fits_gib": fits}


def _lever_report(cost: Cost, memory_gib: Sequence[int], reserve_gib: float) -> dict[str, Any]:
    """Return a lever's cost without details, so that DVC's table of metrics stays readable."""
    return {
        "parameters": cost.parameters,
        "trainable": cost.trainable,
        "static_bytes": cost.static_bytes,
        "activation_bytes": cost.breakdown["activations"],
        "peak_bytes": cost.peak_bytes,
        "flops": cost.flops,
        "smallest_fit_gib": smallest_fit(cost.peak_bytes, memory_gib, reserve_gib),
    }


def print_plan(report: Mapping[str, Any], console: Console) -> None:
    """Print the tables of modes, levers and times, and the largest sizes if they were searched."""
    console.print(plan_table(report))
    console.print(lever_table(report))
    if "timing" in report:
        console.print(time_table(report))
    console.print(
        "VAE and text encoder are not counted: training reads cached latents and does not load them."
    )
    if "timing" in report:
        console.print(timing_note(report["timing"]), soft_wrap=False, markup=False)
    if "largest" in report:
        _print_largest(report["largest"], report["step"], console)


def _print_largest(largest: Mapping[str, Any], step: Mapping[str, int], console: Console) -> None:
    batch, frames = step["batch"], step["frames"]
    for mode, most in largest["modes"].items():
        many = f"up to {most['batch']} clips" if most["batch"] else "no clip"
        longest = most["frames"]
        long = f"or {batch} clips of up to {longest} frames" if longest else f"nor {batch} clips of one"
        console.print(f"{mode} in {largest['memory_gib']:g} GiB: {many} of {frames} frames, {long}")


def lever_table(report: Mapping[str, Any]) -> Table:
    """Return the table of costs: one row per mode, then one per lever."""
    rows = {name: _as_lever(mode) for name, mode in report["modes"].items()} | report["levers"]
    most_bytes, most_flops = (max(row[key] for row in rows.values()) for key in ("peak_bytes", "flops"))
    memory, of_memory = ("GiB", GIB) if most_bytes >= GIB else ("MiB", 2**20)
    work_unit, of_work = ("TFLOP", 1e12) if most_flops >= 1e12 else ("GFLOP", 1e9)
    table = Table(title=f"Each memory lever on its own; memory in {memory}")
    table.add_column("", overflow="fold")  # narrow terminals wrap the names and not the numbers
    for name in ("trained", "static", "activations", "peak", work_unit, "fits in GiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['trainable'] / 1e6:.2f} M",
            *(f"{row[key] / of_memory:.2f}" for key in ("static_bytes", "activation_bytes", "peak_bytes")),
            f"{row['flops'] / of_work:.2f}",
            str(row["smallest_fit_gib"] or "none"),
        )
    return table


def time_table(report: Mapping[str, Any]) -> Table:
    """Return the table of times: hours, cost and fit for each mode and lever, one row each."""
    timing = report["timing"]
    memory, price = timing["device"]["memory_bytes"], timing["price_per_hour"]
    titles = ["per step", "steps", "all steps"]
    titles += [] if price is None else ["cost"]
    titles += [] if memory is None else [f"fits its {memory / GIB:.0f} GiB"]
    table = Table("", title=f"Time on {timing['device']['name']}")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in (report["modes"] | report["levers"]).items():
        cells = [interval(row["step_s"]), f"{row['steps']:,}", duration(row["hours"])]
        cells += [] if price is None else [money(row["cost"])]
        cells += [] if memory is None else ["yes" if row["fits_device"] else "no"]
        table.add_row(name, *cells)
    return table


def _as_lever(mode: Mapping[str, Any]) -> dict[str, Any]:
    fitting = [int(gib) for gib, enough in mode["fits_gib"].items() if enough]
    activations = mode["breakdown"]["activations"]
    return {**mode, "activation_bytes": activations, "smallest_fit_gib": min(fitting, default=None)}


def plan_table(report: Mapping[str, Any]) -> Table:
    """Return the plan as a table: one column per mode, then parallel relative to serial."""
    step, modes = report["step"], report["modes"]
    clips = f"{step['batch']} clips, latents {step['frames']} x {step['height']} x {step['width']}"
    table = Table("", *modes, "parallel / serial", title=f"One training step, predicted: {clips}")
    for column in table.columns[1:]:
        column.justify = "right"
    share = {key: f"{value:.0%}" for key, value in report["parallel_over_serial"].items()}
    rows = _rows(list(modes.values()))
    if "timing" in report:
        rows += _time_rows(list(modes.values()), report["timing"])
    for label, cells, ratio in rows:
        table.add_row(label, *cells, share.get(ratio, ""))
    return table


def _time_rows(
    costs: Sequence[Mapping[str, Any]], timing: Mapping[str, Any]
) -> list[tuple[str, list[str], str]]:
    rows = [
        ("time per step", [interval(cost["step_s"]) for cost in costs], "step_s"),
        ("steps", [f"{cost['steps']:,}" for cost in costs], ""),
        ("time of all steps", [duration(cost["hours"]) for cost in costs], "hours"),
    ]
    if (price := timing["price_per_hour"]) is not None:
        rows.append((f"cost at {price:g} per hour", [money(cost["cost"]) for cost in costs], "hours"))
    if (memory := timing["device"]["memory_bytes"]) is not None:
        fits = ["yes" if cost["fits_device"] else "no" for cost in costs]
        rows.append((f"fits its {memory / GIB:.0f} GiB", fits, ""))
    return rows


def timing_note(timing: Mapping[str, Any]) -> str:
    """Return a note on what the times are based on and what they leave out."""
    device = timing["device"]
    return (
        f"Times are for one device, {device['name']}, and are based on {device['basis']}. They cover "
        "training steps only, without start, held-out losses, previews and checkpoints. A step that does not "
        "fit is timed as if it did."
    )


def _rows(costs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], str]]:
    """Return the rows of `plan_table`: label, one cell per mode, and the key of the ratio to show."""
    rows = [
        ("parameters", [f"{cost['parameters']:,}" for cost in costs], ""),
        ("trained", [f"{cost['trainable']:,}" for cost in costs], "trainable"),
        ("work", [work(cost["flops"]) for cost in costs], "flops"),
        ("peak memory", [size(cost["peak_bytes"]) for cost in costs], "peak"),
    ]
    rows += [
        (f"  {category}", [size(cost["breakdown"][category]) for cost in costs], "")
        for category in costs[0]["breakdown"]
    ]
    return [*rows, ("fits", [_fits(cost["fits_gib"]) for cost in costs], "")]


def _fits(fits: Mapping[str, bool]) -> str:
    sizes = [int(size) for size, enough in fits.items() if enough]
    return f"{min(sizes)} GiB or more" if sizes else f"not even {max(map(int, fits))} GiB"
