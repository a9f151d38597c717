"""Node of the `plan` pipeline."""

import logging
from dataclasses import replace
from typing import Any

from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.media.clip_format import ClipFormat
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.config import PlanConfig
from mobius_pipeline.planning.model import Plan
from mobius_pipeline.planning.step_shape import StepShape
from mobius_pipeline.training.config import refuse_uneven

log = logging.getLogger(__name__)


def plan_training(
    base_model: BaseModel,
    plan: PlanConfig,
    clip: ClipFormat,
    batch_size: int,
    parts: int,
    processes: int,
    rendezvous: dict[str, Any] | None,
    steps: int,
    equal_compute: bool,
    autocast: str | None,
    device: str,
    serial: Variant,
    parallel: Variant,
) -> Plan:
    """Predict memory, FLOPs and, for a device, time of both modes and of levers; print and record the plan.

    The plan is for one process of the training and its device. `parts` is the training's
    `gradient_accumulation_steps`, `processes` its `num_processes`, `rendezvous` its machines (None: one); the
    other arguments have the names of its settings. `device` matters only for `plan.device: here`. The base's
    weights are not read.
    """
    from rich.console import Console

    from mobius_pipeline.planning.levers import Models
    from mobius_pipeline.planning.plan import Memories, Timed, make_plan
    from mobius_pipeline.planning.record import record_plan
    from mobius_pipeline.planning.report import print_plan

    processes *= rendezvous["nodes"] if rendezvous else 1
    shape = _share(base_model, clip, batch_size, parts, processes)
    timed = None
    if plan.device is not None:
        timed = Timed(plan.device, steps, equal_compute, plan.price_per_hour, device)
    models: Models = {"serial": serial, "parallel": _predictable(parallel)}
    memories = Memories(plan.memory_gib, plan.reserve_gib, plan.largest_in_gib)
    predicted = make_plan(
        base_model.unet_config,
        models,
        shape,
        memories,
        levers=plan.levers,
        timed=timed,
        autocast=autocast is not None,
    )
    print_plan(predicted, Console())
    record_plan(predicted)
    return predicted


def _share(base_model: BaseModel, clip: ClipFormat, batch_size: int, parts: int, processes: int) -> StepShape:
    """Return the sizes of what one of the processes computes in a step."""
    refuse_uneven(batch_size, processes, parts)
    batch = batch_size // processes
    if processes > 1:
        log.info("Planning one of %d processes: %d clips per step.", processes, batch)
    size = max(clip.sizes, key=lambda one: one.volume)  # the largest bucket needs the most memory
    scale = base_model.latent_scale
    height, width = size.height // scale, size.width // scale
    return StepShape(batch, size.frames, height, width, base_model.text_tokens, parts)


def _predictable(variant: Variant) -> Variant:
    """Return the model to plan: float32 instead of int8, which can only be made from real weights."""
    if variant.spatial_dtype != "int8":
        return variant
    log.warning("spatial_dtype: int8 cannot be predicted; the plan uses float32, which needs more memory.")
    return replace(variant, spatial_dtype="float32")
