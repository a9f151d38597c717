"""The plan as the JSON that the catalog keeps and the table that the terminal shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from mobius_pipeline.planning.predict import Cost, StepShape

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
    costs: Mapping[str, Cost], shape: StepShape, memory_gib: Sequence[int], reserve_gib: float
) -> dict[str, Any]:
    """The whole plan, JSON-serialisable: the step's sizes, each mode's cost, parallel over serial."""
    return {
        "step": asdict(shape),
        "reserve_gib": reserve_gib,
        "modes": {mode: _mode_report(cost, memory_gib, reserve_gib) for mode, cost in costs.items()},
        "parallel_over_serial": ratios(costs["parallel"], costs["serial"]),
    }


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
    return {**asdict(cost), "predicted_peak_gib": cost.peak_bytes / GIB, "fits_gib": fits}


def plan_table(report: Mapping[str, Any]) -> Table:
    """The plan as a table: a column a mode, and parallel relative to serial."""
    step, modes = report["step"], report["modes"]
    clips = f"{step['batch']} clips, latents {step['frames']} x {step['height']} x {step['width']}"
    table = Table("", *modes, "parallel / serial", title=f"One training step, predicted: {clips}")
    for column in table.columns[1:]:
        column.justify = "right"
    share = {key: f"{value:.0%}" for key, value in report["parallel_over_serial"].items()}
    for label, cells, ratio in _rows(list(modes.values())):
        table.add_row(label, *cells, share.get(ratio, ""))
    return table


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
