"""Cost of a training step, as ratios within one run: modes, memory levers, tails and widths.

Every variant takes a turn in every round, so that changes of the machine's speed affect all of them. A
round's ratio is a variant's seconds over those of its reference in the same round. `make bench` runs this.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mobius_pipeline.models.factory import build_model
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.planning.predict import TrainingStep, measure_training, model_inputs, training_step
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.errors import MobiusError

# The ModelScope layout at a fifth of its width. Weights grow with the square of the width, activations with
# the width alone: with these sizes their proportion is near that of the full layout, 2 clips of 16 x 32 x 32.
UNET: dict[str, Any] = {
    "sample_size": 24,
    "block_out_channels": (64, 128, 256, 256),
    "layers_per_block": 2,
    "cross_attention_dim": 256,
    "attention_head_dim": (4, 8, 16, 16),
    "norm_num_groups": 16,
    "use_linear_projection": True,
}
SHAPE = StepShape(batch=1, frames=8, height=24, width=24, tokens=77)
WARMUP = 2  # rounds: allocation, kernel choice, compilation
FEWEST = 3  # timed rounds of a variant, however slow


@dataclass(frozen=True)
class Entry:
    """A variant to time, and the reference that it is compared with."""

    name: str
    variant: Variant
    reference: str
    autocast: bool = False
    state_bits: int = 32


SERIAL, PARALLEL = USUAL["serial"], USUAL["parallel"]


def entries() -> list[Entry]:
    """Return modes, tails and widths against serial, and each lever against the mode without it."""
    checkpointed = replace(PARALLEL, checkpoint_temporal=True)
    levers = [
        Entry("parallel, checkpoint_temporal", checkpointed, "parallel"),
        Entry("serial, checkpoint_temporal", replace(SERIAL, checkpoint_temporal=True), "serial"),
        Entry("parallel, autocast bfloat16", PARALLEL, "parallel", autocast=True),
        Entry("serial, autocast bfloat16", SERIAL, "serial", autocast=True),
        Entry("parallel, 8-bit AdamW", PARALLEL, "parallel", state_bits=8),
        Entry("parallel, spatial bfloat16", replace(PARALLEL, spatial_dtype="bfloat16"), "parallel"),
        Entry("parallel, spatial int8", replace(PARALLEL, spatial_dtype="int8"), "parallel"),
        Entry("parallel, channels_last", replace(PARALLEL, channels_last=True), "parallel"),
        Entry("parallel, compile_spatial", replace(PARALLEL, compile_spatial=True), "parallel"),
    ]
    family = [
        Entry(f"tail {tail}, width {width:g}", Variant("parallel", tail=tail, width=width), "serial")
        for tail in (0, 1, 3, 6)
        for width in (0.0, 0.125, 0.25, 0.5)
        if (tail or width) and (tail, width) != (PARALLEL.tail, PARALLEL.width)
    ]
    attention = Entry("parallel, blocks attention", replace(PARALLEL, blocks="attention"), "serial")
    modes = [Entry("serial", SERIAL, "serial"), Entry("parallel", PARALLEL, "serial")]
    return [*modes, Entry("sum", Variant("sum"), "serial"), *family, attention, *levers]


def prepared(entry: Entry) -> TrainingStep | str:
    """Build the step of an entry, or return why it cannot run here."""
    try:
        torch.manual_seed(0)
        model = build_model(entry.variant, UNet2DConditionModel(**UNET), seed=0)
        inputs = model_inputs(UNET | {"in_channels": 4}, SHAPE)
        return training_step(model, inputs, autocast=entry.autocast, state_bits=entry.state_bits)
    except MobiusError as error:
        return str(error)


def timed_rounds(steps: dict[str, TrainingStep], rounds: int, most_s: float) -> dict[str, list[float]]:
    """Return the seconds of every variant's steps, measured in turns, without warm-up rounds.

    A variant that has taken `most_s` seconds gets no more turns than `FEWEST`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in track(range(WARMUP + rounds), "rounds", console=Console(stderr=True)):
        for name, step in steps.items():
            if len(seconds[name]) >= WARMUP + FEWEST and sum(seconds[name][WARMUP:]) > most_s:
                continue
            began = perf_counter()
            step.run()
            seconds[name].append(perf_counter() - began)
    return {name: values[WARMUP:] for name, values in seconds.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}


def measured(
    entries: Sequence[Entry], steps: dict[str, TrainingStep], rounds: int, most_s: float
) -> dict[str, dict[str, Any]]:
    """Measure time, memory and FLOPs of every entry, and their ratios to its reference."""
    seconds = timed_rounds(steps, rounds, most_s)
    costs = {name: measure_training(step) for name, step in steps.items()}
    rows = {}
    for entry in entries:
        if entry.name not in steps:
            continue
        cost, reference = costs[entry.name], costs[entry.reference]
        pairs = zip(seconds[entry.name], seconds[entry.reference], strict=False)  # a slow one has fewer
        rows[entry.name] = {
            "reference": entry.reference,
            "rounds": len(seconds[entry.name]),
            "step_s": spread(seconds[entry.name]),
            "time_ratio": spread([own / other for own, other in pairs]),
            "peak_bytes": cost.peak_bytes,
            "peak_ratio": cost.peak_bytes / reference.peak_bytes,
            "flops": cost.flops,
            "flops_ratio": cost.flops / reference.flops,
            "trainable": cost.trainable,
        }
    return rows


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """Return a table with a row per variant; ratios are to the variant in the second column."""
    shown = Table("", "against", "step", "time ratio (quartiles)", "peak MiB", "peak ratio", "FLOPs ratio")
    for column in shown.columns[2:]:
        column.justify = "right"
    for name, row in rows.items():
        ratio = row["time_ratio"]
        shown.add_row(
            name,
            row["reference"],
            f"{row['step_s']['median']:.3f} s",
            f"{ratio['median']:.3f} ({ratio['lower']:.3f} to {ratio['upper']:.3f})",
            f"{row['peak_bytes'] / 2**20:.1f}",
            f"{row['peak_ratio']:.3f}",
            f"{row['flops_ratio']:.3f}",
        )
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="timed turns per variant, at least 3")
    parser.add_argument("--most-seconds", type=float, default=40, help="a slower variant gets fewer turns")
    parser.add_argument("--only", nargs="*", help="names of variants; their references run too")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/steps.json"))
    options = parser.parse_args(arguments)

    chosen = entries()
    if options.only:
        wanted = {
            name for entry in chosen if entry.name in options.only for name in (entry.name, entry.reference)
        }
        chosen = [entry for entry in chosen if entry.name in wanted | {"serial"}]
    tried = {entry.name: prepared(entry) for entry in chosen}
    steps = {name: step for name, step in tried.items() if not isinstance(step, str)}
    left_out = {name: reason for name, reason in tried.items() if isinstance(reason, str)}
    gc.collect()
    rows = measured(chosen, steps, max(options.rounds, FEWEST), options.most_seconds)
    console = Console(width=130)
    console.print(table(rows))
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "unet": UNET,
        "step": asdict(SHAPE),
        "machine": {
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "variants": rows,
        "left_out": left_out,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
