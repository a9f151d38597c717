"""Which model of the family, and with which memory levers: one value that names a model completely."""

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["serial", "parallel", "sum"]
MODES: tuple[Mode, ...] = get_args(Mode)
SpatialDtype = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True)
class Variant:
    """A mode and its options.

    Attributes:
        mode: `parallel` (two streams), `serial` (diffusers' `UNet3DConditionModel`), or `sum` (the ablation:
            spatial and temporal sublayers of the same input, added).
        width: The temporal stream's share of the spatial channels; below 1 the stream is a *ladder*.
        stream_spatial: Give the stream ResNet and text cross-attention blocks of its own.
        checkpoint_temporal: Keep the inputs of trained layers only and compute the rest again on the way
            back; in serial and sum, whose gradients cross the spatial layers, of those too.
        spatial_dtype: What the frozen spatial stream is kept and computed in; `int8` keeps the weights of its
            linear layers in 8 bits (torchao) and the rest in float32.
        channels_last: Keep the spatial stream's images as (N, H, W, C) in memory.
        compile_spatial: Run the frozen spatial stream through `torch.compile`.

    Raises:
        ValueError: If an option cannot work with the mode, with the reason.
    """

    mode: Mode = "parallel"
    width: float = 1.0
    stream_spatial: bool = False
    checkpoint_temporal: bool = False
    spatial_dtype: SpatialDtype = "float32"
    channels_last: bool = False
    compile_spatial: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 < self.width <= 1:
            raise ValueError(f"width must be above 0 and at most 1, not {self.width}")
        if self.mode == "parallel":
            return
        for name, plain, reason in _NEEDS_A_SPATIAL_STREAM:
            value = getattr(self, name)
            if value != plain:
                raise ValueError(
                    f"{name}: {value} cannot work with mode: {self.mode}: {reason}. "
                    f"Set {name}: {plain}, or mode: parallel"
                )


_NO_STREAM = "it has no temporal stream of its own"
_GRADIENTS_CROSS = "its gradients cross the spatial layers, which therefore are no stream apart"
_NEEDS_A_SPATIAL_STREAM = (
    ("width", 1.0, _NO_STREAM),
    ("stream_spatial", False, _NO_STREAM),
    ("spatial_dtype", "float32", _GRADIENTS_CROSS),
    ("channels_last", False, _GRADIENTS_CROSS),
    ("compile_spatial", False, _GRADIENTS_CROSS),
)
