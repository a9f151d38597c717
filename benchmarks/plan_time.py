"""Accuracy of the plan's time on this machine: training steps and an encoding, predicted and measured.

Predictions are made like those of `mobius plan --device here`: ten steps of a tiny model and the heaviest
operations of both modes are timed, once for each UNet and size. Then real steps of all recipes (modes, levers
and widths) are timed in rounds. The encoding is that of real clips into a real store: the seconds of one more
clip, from two stores of different length. Ratios are predicted over measured. `make bench` runs this.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from rich.console import Console
from rich.table import Table

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.base_model.train import write_text_encoder
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.ingest.table import tabulate
from mobius_pipeline.latents.config import EncodeConfig
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.models.factory import build_model
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.calibrate import Calls, issue_seconds, measured_device
from mobius_pipeline.planning.command import measured_decode_rate
from mobius_pipeline.planning.encoding import list_captions, list_clip
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.planning.predict import (
    TrainingStep,
    model_inputs,
    predict_training,
    predictor,
    training_step,
)
from mobius_pipeline.planning.roofline import Device, seconds
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.sources.sample_clips import SampleClipsConfig, write_set

SERIAL, PARALLEL = USUAL["serial"], USUAL["parallel"]
VARIANTS = {
    "serial": SERIAL,
    "serial, checkpoint_temporal": replace(SERIAL, checkpoint_temporal=True),
    "parallel": PARALLEL,
    "parallel, checkpoint_temporal": replace(PARALLEL, checkpoint_temporal=True),
    "parallel, width 1/8": replace(PARALLEL, width=1 / 8),
    "parallel, width 1/2": replace(PARALLEL, width=1 / 2),
}
# ModelScope's layout at a fifth and at a tenth of its width.
UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 256,
    "norm_num_groups": 16,
    "use_linear_projection": True,
}
SIZES = {
    "large": (
        UNET | {"block_out_channels": (64, 128, 256, 256), "attention_head_dim": (4, 8, 16, 16)},
        StepShape(batch=1, frames=8, height=24, width=24, tokens=77),
    ),
    "small": (
        UNET | {"block_out_channels": (32, 64, 128, 128), "attention_head_dim": (2, 4, 8, 8)},
        StepShape(batch=2, frames=4, height=16, width=16, tokens=16),
    ),
}
CLIP = ClipFormat(frames=8, height=64, width=64, fps=8)
TOKENS = 16
ENCODING = "encoding"
PARTS = [*SIZES, ENCODING]
FEW, MANY = 4, 12  # clips of the two stores


def built(unet: Mapping[str, Any], variant: Variant, shape: StepShape) -> TrainingStep:
    """Build a real training step, with random weights."""
    torch.manual_seed(0)
    model = build_model(variant, UNet2DConditionModel(**unet), seed=0)
    return training_step(model, model_inputs(unet, shape))


def here(unet: Mapping[str, Any], shape: StepShape, issue_s: float) -> Device:
    """Measure this machine as the plan does."""
    calls = Calls()
    for variant in (SERIAL, PARALLEL):
        predictor(unet, variant)(shape, calls)
    return measured_device(calls.distinct, "cpu", issue_s=issue_s)


def step_rows(size: str, issue_s: float, rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of a step of every variant at one size, predicted and measured."""
    unet, shape = SIZES[size]
    steps = {name: built(unet, variant, shape) for name, variant in VARIANTS.items()}
    costs = {name: predict_training(unet, variant, shape) for name, variant in VARIANTS.items()}
    device = here(unet, shape, issue_s)
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):  # the first one is warm-up
        for name, step in steps.items():
            began = perf_counter()
            step.run()
            spent[name].append(perf_counter() - began)
    return {
        f"{size}: {name}": row(seconds(costs[name].operations, device), spent[name][1:]) for name in steps
    }


def row(predicted: float, measured: Sequence[float]) -> dict[str, float]:
    """Return predicted seconds, measured seconds, and their ratio with quartiles."""
    lower, median, upper = statistics.quantiles(measured, n=4, method="inclusive")
    return {
        "predicted_s": predicted,
        "measured_s": median,
        "ratio": predicted / median,
        "lower": predicted / upper,
        "upper": predicted / lower,
    }


def write_base(folder: Path) -> None:
    """Write a VAE of Stable Diffusion's layout at half its width, and the project's text encoder."""
    write_text_encoder(folder, tokens=TOKENS)
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(64, 128, 256, 256),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
    )
    vae.save_pretrained(folder / "vae")


def encode_row(issue_s: float, rounds: int) -> dict[str, float]:
    """Return the seconds of one more clip of an encoding, predicted and measured."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "clips").mkdir()
        write_base(root / "base")
        config = SampleClipsConfig(
            clips=MANY,
            seed=1,
            frame_rates=[8],
            sizes=[(64, 64)],
            seconds=(1.1, 1.2),
            shape_size=(0.34, 0.4),
            workers=1,
        )
        write_set(root / "clips", config)
        ingest = IngestConfig(heldout_share=0.25, files_per_batch=8)
        manifest = pd.read_parquet(tabulate(root / "clips", ingest, CLIP, root / "work"))
        measured = [further_clip(root, manifest, turn) for turn in range(rounds)]
        return row(predicted_clip(root, manifest, issue_s), measured)


def further_clip(root: Path, manifest: pd.DataFrame, turn: int) -> float:
    """Return the seconds that each clip adds to an encoding; the time of its start cancels out."""
    config = EncodeConfig(
        clips_per_shard=32, frames_per_batch=16, device="cpu", gpus=0, retries=1, remove_orphans=False
    )
    taken = []
    for clips in (FEW, MANY):
        began = perf_counter()
        store = root / f"store-{turn}-{clips}"
        update_store(store, manifest.head(clips), root / "clips", BaseModel(root / "base"), CLIP, config)
        taken.append(perf_counter() - began)
    return (taken[1] - taken[0]) / (MANY - FEW)


def predicted_clip(root: Path, manifest: pd.DataFrame, issue_s: float) -> float:
    """Return the plan's seconds for a clip that is decoded beside the VAE."""
    clip, captions = Calls(), Calls()
    list_clip(root / "base", CLIP.sizes[0], 16, clip)
    count = list_captions(root / "base", TOKENS, captions)
    device = measured_device([*clip.distinct, *captions.distinct], "cpu", issue_s=issue_s)
    encode = seconds(clip.found, device) + seconds(captions.found, device) / count
    decode = 1 / measured_decode_rate(root / "clips" / manifest["path"].iloc[0], CLIP)
    return max(encode, decode)


def error(rows: Mapping[str, Mapping[str, float]]) -> float:
    """Return the mean distance of the ratios from 1, as a factor minus 1."""
    return math.exp(statistics.mean(abs(math.log(one["ratio"])) for one in rows.values())) - 1


def table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table with a row per recipe."""
    shown = Table("", "predicted", "measured", "predicted / measured (quartiles)")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, one in rows.items():
        ratio = f"{one['ratio']:.2f} ({one['lower']:.2f} to {one['upper']:.2f})"
        shown.add_row(name, f"{one['predicted_s']:.3f} s", f"{one['measured_s']:.3f} s", ratio)
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timed turns per recipe, at least 2")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/plan_time.json"))
    options = parser.parse_args(arguments)
    issue_s = issue_seconds(torch.device("cpu"))
    rows: dict[str, dict[str, float]] = {}
    for part in options.parts:
        if part == ENCODING:
            rows["encoding, a further clip"] = encode_row(issue_s, max(2, options.rounds // 2))
        else:
            rows |= step_rows(part, issue_s, options.rounds)
    off = error(rows)
    console = Console(width=110)
    console.print(table(rows))
    console.print(f"mean error {off:.0%}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"threads": torch.get_num_threads(), "torch": torch.__version__, "error": off, "rows": rows}
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
