"""The parameters of `conf/<env>/parameters_plan.yml`."""

from typing import Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from mobius_pipeline.planning.devices import Datasheet, check_choice
from mobius_pipeline.planning.levers import LEVERS
from mobius_pipeline.runtime.config import Config


class PlanConfig(Config):
    """Settings of the plan, in addition to clip format, batch size and base.

    Attributes:
        memory_gib: Memory sizes to check whether a step fits.
        reserve_gib: Memory that a device needs in addition to live tensors: context, workspaces, fragments.
        levers: Names of `planning.levers.LEVERS` to predict in addition to the two modes.
        largest_in_gib: Memory to find each mode's largest batch and frame count for; null: do not search.
        device: Device to predict the time of `train.steps` for: a name of `planning.devices.KNOWN`, "here" to
            measure `train.device` of this machine, or a datasheet's figures; null: predict no time.
        price_per_hour: Price of the device, in any currency; null: predict no cost.
    """

    memory_gib: tuple[PositiveInt, ...] = Field(min_length=1)
    reserve_gib: float = Field(ge=0)
    levers: tuple[str, ...]
    largest_in_gib: float | None = Field(gt=0)
    device: str | Datasheet | None = None
    price_per_hour: float | None = Field(default=None, gt=0)

    @field_validator("levers")
    @classmethod
    def _known(cls, levers: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(levers) - LEVERS.keys()):
            raise ValueError(f"plan.levers: {unknown} are unknown; the levers are {', '.join(LEVERS)}")
        return levers

    @model_validator(mode="after")
    def _device_is_known_and_priced(self) -> Self:
        check_choice(self.device, self.price_per_hour)
        return self
