"""Run `mobius plan`: plan a training or an encoding from a model's configuration."""

import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from mobius_pipeline.base_model.settings import text_tokens
from mobius_pipeline.base_model.unet_config import USUAL_SCALE, find_latent_scale, read_unet_config
from mobius_pipeline.media.clip import load_clip
from mobius_pipeline.media.clip_format import ClipFormat, ClipSize
from mobius_pipeline.planning.calibrate import Calls, chosen_device
from mobius_pipeline.planning.devices import Datasheet
from mobius_pipeline.planning.encoding import StoreFormat, list_captions, list_clip, store_bytes
from mobius_pipeline.planning.encoding_plan import Prices, Speed, build_encoding_plan, print_encoding
from mobius_pipeline.planning.levers import USUAL
from mobius_pipeline.planning.plan import Memories, Timed, make_plan
from mobius_pipeline.planning.record import record_plan
from mobius_pipeline.planning.report import print_plan
from mobius_pipeline.planning.roofline import seconds
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.runtime.document import Document
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import write_json

MEMORY_GIB = (8, 12, 16, 24, 40, 80)
RESERVE_GIB = 1.0  # context, workspaces and fragments, in addition to live tensors
MOST_PROCESSES = 4  # each loads torch and diffusers: half a GiB
USUAL_TOKENS = 77  # CLIP's
CLIPS_PER_SHARD, FRAMES_PER_BATCH = 32, 16  # as in conf/base/parameters_encode.yml
DECODES = 5


@dataclass(frozen=True)
class Planned:
    """A base model and the size of the clips.

    Attributes:
        source: A UNet's config.json, its folder, or a model's folder in diffusers' layout.
        frames: Frames per clip.
        height: Height of a clip in px.
        width: Width of a clip in px.
        fps: Frame rate of the clips.
        text_tokens: Length of a text embedding; None: the tokenizer's, or `USUAL_TOKENS` without one.
    """

    source: Path
    frames: int
    height: int
    width: int
    fps: float
    text_tokens: int | None


@dataclass(frozen=True)
class Workers:
    """The devices and CPU cores that encode clips.

    Attributes:
        gpus: Number of devices, which encode in parallel.
        cores: CPU cores that decode for each device.
        decode_rate: Clips per second that a core decodes; None: measure it on `sample_clip`, if given.
        sample_clip: A video to measure the decode rate with.
    """

    gpus: int
    cores: int
    decode_rate: float | None = None
    sample_clip: Path | None = None


def plan_base(
    console: Console,
    planned: Planned,
    *,
    batch: int,
    memory: float,
    steps: int,
    device: str | Datasheet | None,
    price_per_hour: float | None,
    output: Path | None,
) -> None:
    """Plan a training over a UNet; print and record the plan.

    Args:
        console: Console to print the tables to.
        planned: The UNet and the clips.
        batch: Clips per step.
        memory: Memory in GiB to find the largest batch and frame count for.
        steps: Steps of the training whose hours are predicted.
        device: Device to predict hours for; None: predict no time.
        price_per_hour: Price of the device.
        output: JSON file to write.

    Raises:
        MobiusError: If the configuration is missing, the clips are smaller than one latent cell, the UNet has
            a part that the video models do not support, or the device cannot be used.
    """
    config = read_unet_config(planned.source)
    scale = _scale(planned, console)
    _check_output(output)
    tokens = _tokens(planned, console)
    shape = StepShape(batch, planned.frames, planned.height // scale, planned.width // scale, tokens)
    timed = None
    if device is not None:
        timed = Timed(device, steps, price_per_hour=price_per_hour, here=_here())
    memories = Memories(MEMORY_GIB, RESERVE_GIB, largest_in_gib=memory)
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    plan = make_plan(config, USUAL, shape, memories, timed=timed, processes=processes)
    print_plan(plan, console)
    if device is None:
        console.print("To predict hours and cost, name a device: --device, --steps, --price-per-hour.")
    _write(output, plan, console)
    record_plan(plan)


def plan_encoding(
    console: Console,
    clips: int,
    planned: Planned,
    workers: Workers,
    *,
    captions_per_clip: float,
    device: str | Datasheet | None,
    prices: Prices,
    output: Path | None,
) -> None:
    """Plan the latents store of `clips` clips and their encoding; print the plan.

    Args:
        console: Console to print the table to.
        clips: Number of clips.
        planned: The model and the size of the clips.
        workers: The devices and CPU cores that encode.
        captions_per_clip: Distinct captions per clip, on average.
        device: Device to predict hours for; None: predict no time.
        prices: Prices of a device and of storage.
        output: JSON file to write.

    Raises:
        MobiusError: If the model's configuration is missing or not supported, the clips are smaller than one
            latent cell, the device cannot be used, or the sample clip cannot be read.
    """
    config = read_unet_config(planned.source)
    scale = _scale(planned, console)
    _check_output(output)
    size = ClipSize(frames=planned.frames, height=planned.height, width=planned.width)
    channels, text_width = config["in_channels"], config["cross_attention_dim"]
    tokens = _tokens(planned, console)
    form = StoreFormat(size, channels, scale, tokens, text_width, captions_per_clip, CLIPS_PER_SHARD)
    if workers.sample_clip is not None:
        rate = measured_decode_rate(workers.sample_clip, ClipFormat(**size.model_dump(), fps=planned.fps))
        workers = replace(workers, decode_rate=rate)
    speed = None if device is None else _speed(planned.source, size, tokens, device, workers)
    plan = build_encoding_plan(clips, form, store_bytes(clips, form), speed, prices)
    print_encoding(plan, console)
    _write(output, plan, console)


def _speed(source: Path, size: ClipSize, tokens: int, choice: str | Datasheet, workers: Workers) -> Speed:
    clip, captions = Calls(), Calls()
    list_clip(source, size, FRAMES_PER_BATCH, clip)
    count = list_captions(source, tokens, captions)
    device = chosen_device(choice, lambda: [*clip.distinct, *captions.distinct], _here())
    caption_s = seconds(captions.found, device) / count
    clip_s = seconds(clip.found, device)
    return Speed(device, clip_s, caption_s, workers.decode_rate, workers.cores, workers.gpus)


def measured_decode_rate(path: Path, clip: ClipFormat) -> float:
    """Return the clips per second that one core decodes, scales and crops: the median over a few reads.

    Raises:
        MediaError: If the file is damaged, not a media file, or too short.
    """
    taken = []
    for _ in range(DECODES):
        began = time.process_time()  # CPU time of all threads: the time that a single core would need
        load_clip(path, clip)
        taken.append(time.process_time() - began)
    return 1 / statistics.median(taken)


def _scale(planned: Planned, console: Console) -> int:
    scale, height, width = find_latent_scale(planned.source), planned.height, planned.width
    if scale is None:
        scale = USUAL_SCALE
        console.print(f"No VAE beside {planned.source}: assuming {scale} px per latent cell.", soft_wrap=True)
    if min(height, width) < scale:
        raise MobiusError(f"{height} x {width} px is below one latent cell of {scale} px. Use larger clips.")
    return scale


def _tokens(planned: Planned, console: Console) -> int:
    if planned.text_tokens is not None:
        return planned.text_tokens
    if (planned.source / "tokenizer").is_dir():
        return text_tokens(planned.source)
    console.print(
        f"No tokenizer in {planned.source}: assuming {USUAL_TOKENS} tokens per caption (--text-tokens).",
        soft_wrap=True,
    )
    return USUAL_TOKENS


def _here() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_output(output: Path | None) -> None:
    if output is not None and not output.parent.is_dir():
        raise MobiusError(f"There is no folder {output.parent} for the plan. Make it, or change --output.")


def _write(output: Path | None, plan: Document, console: Console) -> None:
    if output is not None:
        write_json(output, plan.model_dump(mode="json"))
        console.print(f"Plan     {output}", soft_wrap=True, markup=False)
