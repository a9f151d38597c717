"""The plan as the JSON that the catalog keeps and the table that the terminal shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from mobius_pipeline.planning.levers import LEVERS
from mobius_pipeline.planning.predict import Cost, StepShape
from mobius_pipeline.planning.timing import Timing, duration, interval, money

GIB = 2**30


def size(nbytes: float) -> str:
    """Bytes for people, in MiB or GiB."""
    return f"{nbytes / GIB:.2f} GiB" if nbytes >= GIB else f"{nbytes / 2**20:.1f} MiB"


def work(flops: float) -> str:
    """FLOPs for people, in GFLOP or TFLOP."""
    return f"{flops / 1e12:.2f} TFLOP" if flops >= 1e12 else f"{flops / 1e9:.2f} GFLOP"


def smallest_fit(peak_bytes: int, memory_gib: Sequence[int], reserve_gib: float) -> int | None:
    """The smallest of the memories, in GiB, that holds the peak beside the reserve; None if none does."""
    return min((size for size in memory_gib if peak_bytes <= (size - reserve_gib) * GIB), default=None)


def plan_report(
    costs: Mapping[str, Cost],
    shape: StepShape,
    memory_gib: Sequence[int],
    reserve_gib: float,
    levers: Mapping[str, Cost] | None = None,
    timing: Timing | None = None,
) -> dict[str, Any]:
    """The whole plan, JSON-serialisable: the step, each mode's cost, parallel over serial, each lever's.

    With `timing` each of them also has the seconds of a step, and steps, hours and cost of a training.
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
    """Parallel's peak, FLOPs and trained parameters as shares of serial's."""
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
    """A mode's row without its details, so that DVC's table of metrics stays readable."""
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
    """Print the plan: the modes, the levers, and the largest sizes where they were searched."""
    console.print(plan_table(report))
    console.print(lever_table(report))
    if "timing" in report:
        console.print(time_table(report))
    console.print("Without VAE and text encoder: training reads cached latents and holds neither.")
    if "timing" in report:
        console.print(timing_note(report["timing"]), soft_wrap=False, markup=False)
    if "largest" in report:
        _print_largest(report["largest"], report["step"], console)


def _print_largest(largest: Mapping[str, Any], step: Mapping[str, int], console: Console) -> None:
    batch, frames = step["batch"], step["frames"]
    for mode, most in largest["modes"].items():
        many = f"up to {most['batch']} clips" if most["batch"] else "no clip"
        longest = most["frames"]
        long = f"or {batch} clips of up to {longest} frames" if longest else f"nor {batch} of one"
        console.print(f"{mode} in {largest['memory_gib']:g} GiB: {many} of {frames} frames, {long}")


def lever_table(report: Mapping[str, Any]) -> Table:
    """A row a lever: what it costs, beside the modes without it."""
    rows = {name: _as_lever(mode) for name, mode in report["modes"].items()} | report["levers"]
    most_bytes, most_flops = (max(row[key] for row in rows.values()) for key in ("peak_bytes", "flops"))
    memory, of_memory = ("GiB", GIB) if most_bytes >= GIB else ("MiB", 2**20)
    work_unit, of_work = ("TFLOP", 1e12) if most_flops >= 1e12 else ("GFLOP", 1e9)
    table = Table(title=f"Each memory lever on its own; memory in {memory}")
    table.add_column("", overflow="fold")  # on a narrow terminal, so that every number stays whole
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
    """A row a mode and a lever: hours, cost, and whether the step fits the device."""
    timing = report["timing"]
    memory, price = timing["device"]["memory_bytes"], timing["price_per_hour"]
    titles = ["a step", "steps", "all steps"]
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
    """The plan as a table: a column a mode, and parallel relative to serial."""
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
        ("time of a step", [interval(cost["step_s"]) for cost in costs], "step_s"),
        ("steps", [f"{cost['steps']:,}" for cost in costs], ""),
        ("time of all steps", [duration(cost["hours"]) for cost in costs], "hours"),
    ]
    if (price := timing["price_per_hour"]) is not None:
        rows.append((f"cost at {price:g} an hour", [money(cost["cost"]) for cost in costs], "hours"))
    if (memory := timing["device"]["memory_bytes"]) is not None:
        fits = ["yes" if cost["fits_device"] else "no" for cost in costs]
        rows.append((f"fits its {memory / GIB:.0f} GiB", fits, ""))
    return rows


def timing_note(timing: Mapping[str, Any]) -> str:
    """What the times hold for, in words."""
    device = timing["device"]
    return (
        f"Times are of one device, {device['name']}, and rest on {device['basis']}. They are of training "
        "steps alone, without start, held-out losses, previews and checkpoints. A step that does not fit is "
        "timed as if it did."
    )


def _rows(costs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], str]]:
    """Label, one cell a mode, and the ratio to show beside them."""
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
