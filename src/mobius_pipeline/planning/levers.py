"""What the plan compares: the two modes, and each memory lever on its own against them."""

from dataclasses import dataclass

from mobius_pipeline.models.variant import Variant


@dataclass(frozen=True)
class Recipe:
    """A model, and whether its forward pass runs in bfloat16 (autocast)."""

    variant: Variant
    autocast: bool = False


MODES = {mode: Recipe(Variant(mode)) for mode in ("serial", "parallel")}
LEVERS = {
    "serial checkpoint_temporal": Recipe(Variant("serial", checkpoint_temporal=True)),
    "serial autocast": Recipe(Variant("serial"), autocast=True),
    "parallel checkpoint_temporal": Recipe(Variant(checkpoint_temporal=True)),
    "parallel autocast": Recipe(Variant(), autocast=True),
    "parallel spatial_dtype bfloat16": Recipe(Variant(spatial_dtype="bfloat16")),
    "parallel width 1/2": Recipe(Variant(width=1 / 2)),
    "parallel width 1/4": Recipe(Variant(width=1 / 4)),
    "parallel width 1/8": Recipe(Variant(width=1 / 8)),
}
