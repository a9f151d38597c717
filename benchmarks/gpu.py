"""Cost of a training step on one CUDA device, beside the planner's prediction: `python benchmarks/gpu.py`.

It needs torch >= 2.11, diffusers, safetensors, pydantic and the source folder beside it, but no installation
of this project, no Kedro, no MLflow and no weights. The model has the configuration of ModelScope's
text-to-video UNet with random weights, as a text-to-video base and as a text-to-image base of its layout.

For each recipe: `max_memory_allocated` over whole steps after warm-up, the median step, the loss of the first
ten steps on fixed synthetic data, and the peak that is predicted without a GPU.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from torch import Tensor

from mobius_pipeline.models.factory import build_model
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.planning.predict import TrainingStep, model_inputs, predict_training, training_step
from mobius_pipeline.planning.step_shape import StepShape

GIB = 2**30
_LEVELS = ("CrossAttn", "CrossAttn", "CrossAttn", "")
MODELSCOPE: dict[str, Any] = {  # damo-vilab/text-to-video-ms-1.7b, unet/config.json
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": tuple(f"{kind}DownBlock3D" for kind in _LEVELS),
    "up_block_types": tuple(f"{kind}UpBlock3D" for kind in reversed(_LEVELS)),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "attention_head_dim": 64,
    "norm_num_groups": 32,
}
SHAPE = StepShape(batch=2, frames=16, height=32, width=32, tokens=77)
TINY = MODELSCOPE | {
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "block_out_channels": (16, 32),
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
TINY_SHAPE = StepShape(batch=1, frames=4, height=8, width=8, tokens=7)
STEPS, WARMUP = 10, 3


@dataclass(frozen=True)
class Recipe:
    """A model over a base, text-to-image or text-to-video, and whether its forward pass runs in bfloat16."""

    variant: Variant
    video_base: bool = False
    autocast: bool = False


SERIAL, PARALLEL = USUAL["serial"], USUAL["parallel"]
CHECKPOINTED = replace(PARALLEL, checkpoint_temporal=True)
RECIPES = {
    "serial": Recipe(SERIAL),
    "parallel": Recipe(PARALLEL),
    "parallel, tail 0": Recipe(replace(PARALLEL, tail=0)),
    "parallel, tail 3 (a level)": Recipe(replace(PARALLEL, tail=3)),
    "parallel, checkpointed": Recipe(CHECKPOINTED),
    "serial, checkpointed": Recipe(replace(SERIAL, checkpoint_temporal=True)),
    "parallel, autocast": Recipe(PARALLEL, autocast=True),
    "serial, autocast": Recipe(SERIAL, autocast=True),
    "parallel, base in bfloat16": Recipe(replace(PARALLEL, spatial_dtype="bfloat16")),
    "T2V base: serial": Recipe(SERIAL, video_base=True),
    "T2V base: parallel": Recipe(PARALLEL, video_base=True),
    "T2V base: parallel, checkpointed": Recipe(CHECKPOINTED, video_base=True),
    "T2V base: parallel, width 1/8": Recipe(replace(PARALLEL, width=1 / 8), video_base=True),
}


def base_config(video: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return the configuration of the recipe's base: `video`, or a text-to-image UNet of its layout."""
    if recipe.video_base:
        return video
    names = ("down_block_types", "up_block_types")
    heads = tuple(channels // video["attention_head_dim"] for channels in video["block_out_channels"])
    images = {name: tuple(block.replace("3D", "2D") for block in video[name]) for name in names}
    return video | images | {"attention_head_dim": heads, "use_linear_projection": True}


def made_up(config: dict[str, Any], shape: StepShape, device: str) -> list[Tensor]:
    """Return fixed noisy latents, timesteps, text and target."""
    source = torch.Generator().manual_seed(0)
    noisy, _, text, target = (
        torch.randn(tensor.shape, generator=source) if tensor.is_floating_point() else tensor
        for tensor in model_inputs(config, shape)
    )
    steps = torch.randint(1000, (shape.batch,), generator=source)
    return [tensor.to(device) for tensor in (noisy, steps, text, target)]


def built(config: dict[str, Any], recipe: Recipe, shape: StepShape, device: str) -> TrainingStep:
    """Build the recipe's training step, with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        base = (UNet3DConditionModel if recipe.video_base else UNet2DConditionModel).from_config(config)
        model = build_model(recipe.variant, base, seed=0)
    return training_step(model.to(device), made_up(config, shape, device), autocast=recipe.autocast)


def timed(step: Callable[[], Tensor], device: str) -> tuple[list[float], list[float]]:
    """Return losses and seconds of `STEPS` steps, each from and to an idle device."""
    losses, seconds = [], []
    for number in range(STEPS):
        if device == "cuda":
            torch.cuda.synchronize()
            if number == WARMUP:
                torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        losses.append(float(step()))  # waits for the device
        seconds.append(time.perf_counter() - began)
    return losses, seconds


def measured(config: dict[str, Any], recipe: Recipe, shape: StepShape, device: str) -> dict[str, Any]:
    """Return losses, median step and peak memory of a recipe, or why it does not run here."""
    try:
        step = built(config, recipe, shape, device)
        losses, seconds = timed(step.run, device)
    except torch.cuda.OutOfMemoryError as error:
        return {"failed": str(error).splitlines()[0]}
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {
        "losses": losses,
        "step_s": statistics.median(seconds[WARMUP:]),
        "peak_bytes": peak,
        "trainable": sum(weight.numel() for weight in step.trained),
    }


def rows(
    names: Sequence[str], video: dict[str, Any], shape: StepShape, device: str, deadline_s: float
) -> dict[str, dict[str, Any]]:
    """Return a row per recipe; none is started after `deadline_s` seconds."""
    began, found = time.perf_counter(), {}
    for name in names:
        recipe = RECIPES[name]
        if time.perf_counter() - began > deadline_s:
            found[name] = {"failed": f"not started: {deadline_s:.0f} s have passed"}
            continue
        config = base_config(video, recipe)
        cost = predict_training(config, recipe.variant, shape, autocast=recipe.autocast)
        row = measured(config, recipe, shape, device)
        found[name] = {"predicted_bytes": cost.peak_bytes, "flops": cost.flops, **row}
        print(line(name, found[name]), flush=True)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def line(name: str, row: dict[str, Any]) -> str:
    """Return a row of the table."""
    if "failed" in row:
        return f"{name:34} {row['failed']}"
    peak = "       -" if row["peak_bytes"] is None else f"{row['peak_bytes'] / GIB:8.2f}"
    return (
        f"{name:34} {peak} {row['predicted_bytes'] / GIB:10.2f} {row['step_s'] * 1e3:9.1f} "
        f"{row['flops'] / 1e12:8.2f}   {row['losses'][0]:.4f} {row['losses'][-1]:.4f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the benchmark on a CPU")
    parser.add_argument("--seconds", type=float, default=420, help="no recipe is started after that")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gpu.json"))
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.tiny:
        print("There is no CUDA device. Use --tiny to try the benchmark on the CPU.", file=sys.stderr)
        return 1
    video, shape = (TINY, TINY_SHAPE) if options.tiny else (MODELSCOPE, SHAPE)
    card = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{card}, torch {torch.__version__}, {shape}")
    print(
        f"{'':34} {'peak GiB':>8} {'predicted':>10} {'step ms':>9} {'TFLOP':>8}   loss of step 1 and {STEPS}"
    )
    result = {
        "device": card,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "step": asdict(shape),
        "rows": rows(options.recipes, video, shape, device, options.seconds),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
