"""The base of every configuration model: unknown keys are errors, values are immutable once read."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """A section of `conf/<env>/parameters_<pipeline>.yml`; Kedro validates it before any node runs."""

    # pydantic would print the input, in which any value may be a secret: errors name the key and the rule.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch and NumPy take, also with a small number added
