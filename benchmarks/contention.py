"""Time of a step beside other work, by how long OpenMP's threads spin at a barrier (GOMP_SPINCOUNT).

Each count is measured in turn in a separate process, alone on the machine and beside as many busy processes
as there are cores. 300,000 is libgomp's default; the package sets `threads.SPIN_COUNT`. Run it on an idle
machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from mobius_pipeline.runtime.threads import SPIN_COUNT

DEFAULT = "300000"  # libgomp's: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
COUNTS = (DEFAULT, "30000", "10000", SPIN_COUNT, "0")
WARMUP = 2  # steps


def step_s(steps: int) -> float:
    """Return the median seconds of a step of the demo's parallel mode."""
    import torch
    from diffusers import UNet2DConditionModel

    from mobius_pipeline.models.factory import build_model
    from mobius_pipeline.planning.levers import USUAL
    from mobius_pipeline.planning.predict import model_inputs, training_step
    from tracking import SHAPE, UNET

    torch.manual_seed(0)
    model = build_model(USUAL["parallel"], UNet2DConditionModel(**UNET), seed=0)
    step = training_step(model, model_inputs(UNET, SHAPE)).run
    seconds = []
    for _ in range(WARMUP + steps):
        began = perf_counter()
        step()
        seconds.append(perf_counter() - began)
    return statistics.median(seconds[WARMUP:])


def step_in_process(count: str, steps: int) -> float:
    """Run `step_s` in a new process, which reads the count when torch is imported."""
    command = [sys.executable, __file__, "--measure", str(steps)]
    environment = {**os.environ, "GOMP_SPINCOUNT": count}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Run processes that keep one core busy each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measured(rounds: int, steps: int) -> dict[str, Any]:
    """Return the seconds of a step by neighbours and count, with ratios to the default in the same round."""
    found: dict[str, Any] = {}
    for name, number in {"alone": 0, "beside busy processes": os.cpu_count() or 1}.items():
        turns: list[dict[str, float]] = []
        for turn in range(rounds):
            first = turn % len(COUNTS)  # so that a machine that slows down affects all counts alike
            with neighbours(number):
                turns.append(
                    {count: step_in_process(count, steps) for count in (*COUNTS[first:], *COUNTS[:first])}
                )
        found[name] = {count: summary(count, turns) for count in COUNTS}
    return found


def summary(count: str, turns: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return a count's median step, and the median and range of its ratios to the default."""
    ratios = sorted(turn[count] / turn[DEFAULT] for turn in turns)
    return {
        "step_s": statistics.median(turn[count] for turn in turns),
        "over_default": statistics.median(ratios),
        "from": ratios[0],
        "to": ratios[-1],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the result and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="timed steps per turn")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/contention.json"))
    options = parser.parse_args(arguments)
    if options.measure:
        print(step_s(options.measure))
        return 0

    result = measured(options.rounds, options.steps)
    for name, counts in result.items():
        for count, row in counts.items():
            print(
                f"{name}, {count}: {row['step_s']:.3f} s a step, {row['over_default']:.2f} of the default's "
                f"({row['from']:.2f} to {row['to']:.2f})"
            )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
