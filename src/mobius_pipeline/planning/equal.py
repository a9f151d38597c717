"""How long each mode trains, so that both have spent the same compute."""

from collections.abc import Mapping
from typing import Any

from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.models.variant import Variant
from mobius_pipeline.planning.predict import StepShape, predict_training
from mobius_pipeline.training.config import TrainConfig


def with_equal_compute(
    config: TrainConfig,
    variant: Variant,
    reference: Variant,
    unet_config: Mapping[str, Any],
    store: LatentsStore,
) -> TrainConfig:
    """Let a training go on until it has spent what the reference model spends in `config.steps` steps.

    FLOPs are counted, not timed: the number of steps is the same on every machine. Of clips of several sizes
    the largest decide.

    Args:
        config: Of the training; given back as it is unless `equal_compute` is set.
        variant: What is trained.
        reference: What is trained in `config.steps` steps: serial.
        unet_config: Of the base.
        store: The latents of the clips.

    Raises:
        MobiusError: If the base has a part that the video models do not know.
    """
    if not config.equal_compute or variant == reference:
        return config
    clip = max(store.clips("train"), key=lambda clip: clip.size.volume)
    _, frames, height, width = store.moments(clip)[0].shape
    shape = StepShape(config.batch_size, frames, height, width, store.text(clip).shape[0])
    own, other = (
        predict_training(unet_config, one, shape, autocast=config.autocast is not None, ema=False).flops
        for one in (variant, reference)
    )
    return config.model_copy(update={"last_step": max(config.steps, round(config.steps * other / own))})
