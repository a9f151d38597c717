"""The recipes that a plan compares: the two modes, and each memory lever on its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.training.capabilities import refuse_two_formats

PlannedMode = Literal["serial", "parallel"]
Models = Mapping[PlannedMode, Variant]


@dataclass(frozen=True)
class Recipe:
    """A model, and whether its forward pass runs in bfloat16 (autocast).

    Raises:
        MobiusError: If autocast is combined with a base in float16.
    """

    variant: Variant
    autocast: bool = False

    def __post_init__(self) -> None:
        """Refuse the combinations that a training refuses."""
        refuse_two_formats(self.variant, "bfloat16" if self.autocast else None)


@dataclass(frozen=True)
class Lever:
    """Changes of a mode's model, and whether its forward pass runs in bfloat16."""

    mode: PlannedMode
    changes: Mapping[str, Any] = field(default_factory=dict)
    autocast: bool = False

    def applied(self, models: Models, autocast: bool = False) -> Recipe:
        """Return the recipe with the changes; `autocast` is the setting of both modes.

        Raises:
            MobiusError: If the changes do not work with the model; the message has the reason.
        """
        try:
            return Recipe(replace(models[self.mode], **self.changes), self.autocast or autocast)
        except ValueError as error:
            changes = dict(self.changes)
            raise MobiusError(f"plan.levers: {changes} over {models[self.mode]}: {error}.") from error


LEVERS = {
    "serial checkpoint_temporal": Lever("serial", {"checkpoint_temporal": True}),
    "serial autocast": Lever("serial", autocast=True),
    "parallel checkpoint_temporal": Lever("parallel", {"checkpoint_temporal": True}),
    "parallel autocast": Lever("parallel", autocast=True),
    "parallel spatial_dtype bfloat16": Lever("parallel", {"spatial_dtype": "bfloat16"}),
    "parallel tail 0": Lever("parallel", {"tail": 0}),
    "parallel tail 2": Lever("parallel", {"tail": 2}),
    "parallel width 1/2": Lever("parallel", {"width": 1 / 2}),
    "parallel width 1/8": Lever("parallel", {"width": 1 / 8}),
    "parallel without stream": Lever("parallel", {"width": 0.0, "blocks": "resnet"}),
}
# The models of conf/base; docs/results.md explains the choice.
USUAL: Models = {"serial": Variant("serial"), "parallel": Variant("parallel", tail=1, width=3 / 8)}
