"""A mode and its memory levers: one value that describes a model completely."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mobius_pipeline.runtime.config import STRICT

Mode = Literal["serial", "parallel", "sum"]
MODES: tuple[Mode, ...] = get_args(Mode)
Blocks = Literal["resnet", "attention"]
SpatialDtype = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, config=STRICT)
class Variant:
    """A mode and its options: `serial.model` and `parallel.model` of `conf/<env>/parameters_train.yml`.

    Attributes:
        mode: `parallel` (a frozen base, a trained stream beside it, and a tail), `serial` (diffusers'
            `UNet3DConditionModel`), or `sum` (the ablation: spatial and temporal sublayers read the same
            input and are added).
        tail: Number of the last decoder layers that run on the fused state, with gradients; 0 is Mobius as
            published.
        width: The stream's share of the base's channels; 0: no stream, only the tail.
        blocks: Spatial blocks of a stream layer: a ResNet block, or also self- and text cross-attention.
        train_head: Train the base's last normalisation and convolution as well.
        checkpoint_temporal: Keep only the inputs of layers that gradients cross, and recompute the layers in
            the backward pass.
        spatial_dtype: Number format of the base up to the tail; `int8` keeps the weights of its linear layers
            in 8 bits (torchao) and the rest in float32.
        channels_last: Store the base's images as (N, H, W, C), up to the tail.
        compile_spatial: Run the base through `torch.compile`, up to the tail.

    Raises:
        ValidationError: If an option is unknown, out of range, or cannot be combined with the mode.
    """

    mode: Mode
    tail: Annotated[int, Field(ge=0)] = 0
    width: Annotated[float, Field(ge=0, le=1)] = 0.0
    blocks: Blocks = "resnet"
    train_head: bool = False
    checkpoint_temporal: bool = False
    spatial_dtype: SpatialDtype = "float32"
    channels_last: bool = False
    compile_spatial: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.mode == "parallel":
            self._check_parallel()
            return self
        for name, plain, reason in _NEEDS_A_FROZEN_FRONT:
            value = getattr(self, name)
            if value != plain:
                raise ValueError(
                    f"{name}: {value} cannot work with mode: {self.mode}: {reason}. "
                    f"Set {name}: {plain}, or mode: parallel"
                )
        return self

    def _check_parallel(self) -> None:
        if not self.tail and not self.width:
            raise ValueError(
                "tail: 0 and width: 0 leave no temporal layer to train. Set a tail of 1 or more, or a width "
                "above 0"
            )
        if not self.width and self.blocks != "resnet":
            raise ValueError(f"blocks: {self.blocks} needs a stream. Set a width above 0, or blocks: resnet")


_NO_STREAM = "it has no stream beside the base"
_GRADIENTS_CROSS = "its gradients cross the spatial layers, so no part of the base runs without them"
_NEEDS_A_FROZEN_FRONT = (
    ("tail", 0, _NO_STREAM),
    ("width", 0, _NO_STREAM),
    ("blocks", "resnet", _NO_STREAM),
    ("spatial_dtype", "float32", _GRADIENTS_CROSS),
    ("channels_last", False, _GRADIENTS_CROSS),
    ("compile_spatial", False, _GRADIENTS_CROSS),
)
