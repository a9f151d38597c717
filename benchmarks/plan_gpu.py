"""Accuracy of the plan's time on a GPU, against measurements on an H200 and an H100; it needs no GPU.

The operations of `benchmarks/gpu.py`'s recipes are listed without weights, and their times are predicted from
the shares of datasheet peaks in `planning/devices.py`. `--fit` fits these shares again: four rates and the
shortest operation to the sums of kernel times on the H200, then the host's seconds per operation to its step
times. The H100's steps are not used for the fit. Measured values are from docs/performance.md, 2026-11-27,
in ms.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from gpu import MODELSCOPE, RECIPES, SHAPE, base_config
from mobius_pipeline.planning.devices import KNOWN, ON_H200, Attained, Datasheet, from_datasheet
from mobius_pipeline.planning.predict import predict_training
from mobius_pipeline.planning.roofline import Device, Operation, seconds

Case = tuple[str, int]  # a recipe, and clips per step
KERNELS_H200: dict[Case, float] = {
    ("serial", 2): 488,
    ("parallel", 2): 221,
    ("serial, autocast", 2): 176,
    ("parallel, autocast", 2): 121,
    ("serial", 4): 902,
    ("parallel", 4): 393,
    ("serial, autocast", 4): 297,
    ("parallel, autocast", 4): 197,
    ("T2V base: serial", 2): 487,
    ("T2V base: parallel, width 1/8", 2): 271,
    ("parallel, base in bfloat16", 2): 162,
}
STEPS_H200: dict[Case, float] = {
    ("serial", 2): 500,
    ("parallel", 2): 329,
    ("serial, autocast", 2): 308,
    ("parallel, autocast", 2): 415,
    ("serial", 4): 915,
    ("parallel", 4): 462,
    ("serial, autocast", 4): 358,
    ("parallel, autocast", 4): 380,
}
STEPS_H100: dict[Case, float] = {
    ("serial", 2): 528,
    ("serial, checkpointed", 2): 712,
    ("parallel", 2): 292,
    ("parallel, checkpointed", 2): 425,
    ("parallel, tail 0", 2): 265,
    ("parallel, tail 3 (a level)", 2): 326,
    ("parallel, base in bfloat16", 2): 336,
    ("serial, autocast", 2): 255,
    ("parallel, autocast", 2): 373,
    ("T2V base: serial", 2): 527,
    ("T2V base: parallel", 2): 422,
    ("T2V base: parallel, checkpointed", 2): 557,
    ("T2V base: parallel, width 1/8", 2): 375,
}
Listed = Mapping[Case, tuple[Operation, ...]]
Predict = Callable[[tuple[Operation, ...], Device], float]


def listed(cases: Sequence[Case]) -> Listed:
    """Return the operations of every case's step."""
    found = {}
    for name, batch in cases:
        recipe = RECIPES[name]
        shape = replace(SHAPE, batch=batch)
        cost = predict_training(
            base_config(MODELSCOPE, recipe), recipe.variant, shape, autocast=recipe.autocast
        )
        found[name, batch] = cost.operations
    return found


def device(name: str, attained: Attained) -> Device:
    """Return a device of the table with these shares of its peaks."""
    known = KNOWN[name]
    sheet = Datasheet(
        name=name,
        tflops_float32=known.tflops[0],
        tflops_tf32=known.tflops[1],
        tflops_bfloat16=known.tflops[2],
        gb_per_s=known.gb_per_s,
    )
    return from_datasheet(sheet, attained)


def kernels(operations: tuple[Operation, ...], on: Device) -> float:
    """Return the seconds that the operations run, without the time to issue them."""
    return sum(map(on.takes, operations))


def ratios(measured: Mapping[Case, float], work: Listed, predict: Predict, on: Device) -> dict[Case, float]:
    """Return predicted over measured time of every case."""
    return {case: 1e3 * predict(work[case], on) / spent for case, spent in measured.items()}


def fitted(work: Listed) -> Attained:
    """Return the shares that minimise the error of the H200's predictions."""

    def minimal(start: Sequence[float], shares: Callable[[list[float]], Attained], step: bool) -> Attained:
        measured, predict = (STEPS_H200, seconds) if step else (KERNELS_H200, kernels)

        def error(logs: Sequence[float]) -> float:
            found = ratios(measured, work, predict, device("H200 SXM", shares(list(map(math.exp, logs)))))
            return statistics.mean(math.log(ratio) ** 2 for ratio in found.values())

        best = minimize(error, list(map(math.log, start)), method="Nelder-Mead")
        return shares(list(map(math.exp, best.x)))

    def rates(values: list[float]) -> Attained:
        return Attained(*values, ON_H200.issue_s, ON_H200.issue_cast_s)

    first = minimal(
        [ON_H200.float32, ON_H200.tf32, ON_H200.bfloat16, ON_H200.bandwidth, ON_H200.least_s], rates, False
    )

    def issue(values: list[float]) -> Attained:
        return replace(first, issue_s=values[0], issue_cast_s=values[1])

    return minimal([ON_H200.issue_s, ON_H200.issue_cast_s], issue, True)


def report(title: str, measured: Mapping[Case, float], found: Mapping[Case, float], console: Console) -> None:
    """Print a row per case, and the mean error."""
    table = Table("", "clips", "measured", "predicted", "ratio", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for (name, batch), spent in measured.items():
        ratio = found[name, batch]
        table.add_row(name, str(batch), f"{spent:.0f} ms", f"{spent * ratio:.0f} ms", f"{ratio:.2f}")
    console.print(table)
    off = math.exp(statistics.mean(abs(math.log(ratio)) for ratio in found.values())) - 1
    console.print(f"mean error {off:.1%}")


def main(arguments: Sequence[str] | None = None) -> int:
    """List the operations, fit the shares if asked to, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the shares again, and print them")
    options = parser.parse_args(arguments)
    work = listed(list({**KERNELS_H200, **STEPS_H200, **STEPS_H100}))
    attained = fitted(work) if options.fit else ON_H200
    console = Console(width=100)
    console.print(attained)
    h200, h100 = device("H200 SXM", attained), device("H100 SXM", attained)
    for title, measured, predict, on in (
        ("Kernels on an H200 (fitted)", KERNELS_H200, kernels, h200),
        ("Steps on an H200 (fitted)", STEPS_H200, seconds, h200),
        ("Steps on an H100 (not fitted)", STEPS_H100, seconds, h100),
    ):
        report(title, measured, ratios(measured, work, predict, on), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
