"""Set the number of steps with which both modes spend the same compute (`train.equal_compute`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mobius_pipeline.ingest.split import TRAIN
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.predict import predict_flops
from mobius_pipeline.planning.step_shape import StepShape
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
    """Return the configuration of a training that continues until it has spent the reference's FLOPs.

    FLOPs are counted, not timed, so the number of steps is the same on every machine. If clips have several
    sizes, the largest size that fills a batch counts.

    Args:
        config: Configuration of the training; returned unchanged unless `equal_compute` is set.
        variant: The model that is trained.
        reference: The model whose FLOPs over `config.end` steps are the budget: serial.
        unet_config: Configuration of the base's UNet.
        store: The latents of the clips.

    Raises:
        MobiusError: If the base has a part that the video models do not support, or no clips fill a batch.
    """
    if not config.equal_compute or variant == reference:
        return config
    buckets = by_size(store.clips(TRAIN), config.batch_size)
    if not buckets:
        raise MobiusError(f"No {config.batch_size} clips of one size fill a batch. Lower train.batch_size.")
    clip = max((bucket[0] for bucket in buckets), key=lambda clip: clip.size.volume)
    _, frames, height, width = store.moments(clip)[0].shape
    shape = StepShape(config.batch_size, frames, height, width, store.text(clip).shape[0])
    own, other = (
        # 8-bit weights have the same FLOPs, but cannot be predicted.
        predict_flops(
            unet_config, replace(one, spatial_dtype="float32"), shape, autocast=config.autocast is not None
        )
        for one in (variant, reference)
    )
    return config.model_copy(update={"last_step": max(config.steps, round(config.end * other / own))})
