"""What `mobius plan` does: a base's configuration in, tables and a JSON file out."""

import os
from pathlib import Path

from rich.console import Console

from mobius_pipeline.base_model.unet_config import USUAL_SCALE, find_latent_scale, read_unet_config
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.planning.plan import make_plan
from mobius_pipeline.planning.predict import StepShape
from mobius_pipeline.planning.record import record_plan
from mobius_pipeline.planning.report import print_plan
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import write_json

MEMORY_GIB = (8, 12, 16, 24, 40, 80)
RESERVE_GIB = 1.0  # context, workspaces and fragments beside the live tensors
MOST_PROCESSES = 4  # each holds torch and diffusers, half a GiB


def plan_base(
    source: Path,
    memory: float,
    output: Path,
    console: Console,
    *,
    frames: int,
    height: int,
    width: int,
    batch: int,
    text_tokens: int,
) -> None:
    """Plan a training of clips of `frames` x `height` x `width` px over the UNet at `source`.

    Args:
        source: A UNet's config.json, its folder, or a model's.
        memory: GiB to find the largest batch and frame count for.
        output: The JSON file to write.
        console: Where the tables go.
        frames: A clip's.
        height: In px.
        width: In px.
        batch: Clips a step.
        text_tokens: Length of a text embedding.

    Raises:
        MobiusError: If there is no such configuration, the size is below one latent cell, or the UNet has a
            part that the video models do not know.
    """
    config, scale = read_unet_config(source), find_latent_scale(source)
    if scale is None:
        scale = USUAL_SCALE
        console.print(f"No VAE beside {source}: taking {scale} px a latent cell.", soft_wrap=True)
    if min(height, width) < scale:
        raise MobiusError(f"{height} x {width} px is below one latent cell of {scale} px. Take larger clips.")
    if not output.parent.is_dir():
        raise MobiusError(f"There is no folder {output.parent} for the plan. Make it, or change --output.")
    shape = StepShape(batch, frames, height // scale, width // scale, text_tokens)
    report = make_plan(
        config,
        USUAL,
        shape,
        memory_gib=MEMORY_GIB,
        reserve_gib=RESERVE_GIB,
        largest_in_gib=memory,
        processes=min(os.cpu_count() or 1, MOST_PROCESSES),
    )
    write_json(output, report)
    print_plan(report, console)
    console.print(f"Plan     {output}", soft_wrap=True, markup=False)
    record_plan(report)
