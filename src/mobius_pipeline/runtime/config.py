"""The base of every configuration model: unknown keys are errors, values are immutable once read."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """A section of `conf/<env>/parameters_<pipeline>.yml`; Kedro validates it before any node runs."""

    # pydantic would print the input, in which any value may be a secret: errors name the key and the rule.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,  # a limit of NaN would hold for nothing
    )


# Of a watched process: the system waits no longer, and counts no further.
SecondsLimit = Annotated[float, Field(gt=0, le=1_000_000)]
MibLimit = Annotated[int, Field(gt=0, le=2**40)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch and NumPy take, also with a small number added
