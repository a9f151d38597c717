"""How long each mode trains, so that both have spent the same compute."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.predict import StepShape, predict_flops
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.batches import by_size
from mobius_pipeline.training.config import TrainConfig


def with_equal_compute(
    config: TrainConfig,
    variant: Variant,
    reference: Variant,
    unet_config: Mapping[str, Any],
    store: LatentsStore,
) -> TrainConfig:
    """Let a training go on until it has spent what the reference model spends to the end of its training.

    FLOPs are counted, not timed: the number of steps is the same on every machine. Of clips of several sizes
    the largest that fill a batch decide.

    Args:
        config: Of the training; given back as it is unless `equal_compute` is set.
        variant: What is trained.
        reference: What is trained as `config` says: serial.
        unet_config: Of the base.
        store: The latents of the clips.

    Raises:
        MobiusError: If the base has a part that the video models do not know, or no clips fill a batch.
    """
    if not config.equal_compute or variant == reference:
        return config
    buckets = by_size(store.clips("train"), config.batch_size)
    if not buckets:
        raise MobiusError(f"No {config.batch_size} clips of one size fill a batch. Lower train.batch_size.")
    clip = max((bucket[0] for bucket in buckets), key=lambda clip: clip.size.volume)
    _, frames, height, width = store.moments(clip)[0].shape
    shape = StepShape(config.batch_size, frames, height, width, store.text(clip).shape[0])
    own, other = (
        # Weights in 8 bits change no FLOP, and cannot be predicted.
        predict_flops(
            unet_config, replace(one, spatial_dtype="float32"), shape, autocast=config.autocast is not None
        )
        for one in (variant, reference)
    )
    return config.model_copy(update={"last_step": max(config.steps, round(config.end * other / own))})
