"""`conf/<env>/parameters_plan.yml`, typed."""

from pydantic import Field, field_validator

from mobius_pipeline.planning.levers import LEVERS
from mobius_pipeline.runtime.config import Config


class PlanConfig(Config):
    """What the plan assumes beside the clip format, the batch size and the base.

    Attributes:
        text_tokens: Length of a text embedding, in tokens.
        memory_gib: The memories to answer "does it fit" for.
        reserve_gib: Memory that a device needs beside the live tensors: context, workspaces, fragments.
        levers: Names of `planning.levers.LEVERS` to predict beside the two modes.
        largest_in_gib: The memory to find each mode's largest batch and frame count for; null: do not search.
    """

    text_tokens: int = Field(gt=0)
    memory_gib: tuple[int, ...] = Field(min_length=1)
    reserve_gib: float = Field(ge=0)
    levers: tuple[str, ...]
    largest_in_gib: float | None = Field(gt=0)

    @field_validator("levers")
    @classmethod
    def _known(cls, levers: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(levers) - LEVERS.keys()):
            raise ValueError(f"plan.levers: {unknown} are unknown; there are {', '.join(LEVERS)}")
        return levers
