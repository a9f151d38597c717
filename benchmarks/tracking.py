"""Cost of recording a training in MLflow, as a share of the step: real SQLite, the demo's step.

It is measured twice. Blocks of steps with and without recording take turns, so that changes of the machine's
speed affect both. Because that ratio is as noisy as the machine, the CPU time of recording is also measured,
over the time of the recorded steps. `make bench` runs this.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from mobius_pipeline.models.factory import build_model
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.planning.predict import model_inputs, training_step
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.run import FLUSH_SECONDS, Run

# The default of conf/base.
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "cross_attention_dim": 384,
    "attention_head_dim": (4, 8),
    "norm_num_groups": 8,
    "use_linear_projection": True,
}
SHAPE = StepShape(batch=4, frames=8, height=8, width=8, tokens=16)
BLOCK = 20  # steps; at 0.2 s each and a delivery every 10 s, every third block contains one
# Metrics that the trainer reports after each step, and the monitor every 10 s.
METRICS = dict.fromkeys(("loss", "loss/0-249", "loss/500-749", "grad_norm", "learning_rate"), 0.1)
SYSTEM = {f"metric_{i}": 1.0 for i in range(8)}


def timed_block(step: Callable[[], None], record: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of a block of steps with `record` after each, and those of `record` alone."""
    began, recording = perf_counter(), 0.0
    for _ in range(BLOCK):
        step()
        before = perf_counter()
        record()
        recording += perf_counter() - before
    return perf_counter() - began, recording


def measured(step: Callable[[], None], run: Run, rounds: int) -> dict[str, Any]:
    """Compare blocks with recording to blocks without."""
    number = 0

    def record() -> None:
        nonlocal number
        run.log_metrics(METRICS, number)
        number += 1

    timed_block(step, record)  # warm-up
    ratios, shares, seconds = [], [], []
    for _ in range(rounds):
        plain, _ = timed_block(step, lambda: None)
        recorded, calls = timed_block(step, record)
        ratios.append(recorded / plain)
        shares.append(calls / recorded)
        seconds.append(plain / BLOCK)
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "with_over_without": {"median": median, "lower": lower, "upper": upper},
        "share_of_calls": statistics.median(shares),
        "step_s": statistics.median(seconds),
        "rounds": rounds,
        "steps_a_block": BLOCK,
    }


def processor_share(run: Run, step_s: float, windows: int = 20) -> float:
    """Return the CPU time for recording the steps between two deliveries, over the time of those steps."""
    steps, shares = round(FLUSH_SECONDS / step_s), []
    for window in range(windows):
        began = process_time()
        for step in range(steps):
            run.log_metrics(METRICS, (window + 1) * 10**6 + step)
        run.log_system(SYSTEM, window)
        run.flush()
        shares.append((process_time() - began) / (steps * step_s))
    return statistics.median(shares)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the result and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="pairs of blocks")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tracking.json"))
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    model = build_model(USUAL["parallel"], UNet2DConditionModel(**UNET), seed=0)
    step = training_step(model, model_inputs(UNET, SHAPE)).run
    logging.getLogger("mobius_pipeline").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        tracking.configure(tracking.TrackingConfig(experiment="bench", folder=Path("mlruns")), Path(folder))
        with tracking.training_run("parallel", params={}, tags={}, inputs={}) as run:
            result = measured(step, run, options.rounds)
            result["processor_share"] = processor_share(run, result["step_s"])
    ratio = result["with_over_without"]
    print(
        f"step with recording over step without: {ratio['median']:.3f} "
        f"({ratio['lower']:.3f} to {ratio['upper']:.3f}); the calls alone take "
        f"{result['share_of_calls']:.4%} of the step, all of it {result['processor_share']:.2%} of one core"
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
