"""What the configuration models share: unknown keys are errors, and values are immutable."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# pydantic would print the input, which may contain secrets: errors name only the key and the rule.
STRICT = ConfigDict(
    extra="forbid",
    hide_input_in_errors=True,
    allow_inf_nan=False,  # no value would exceed a limit of NaN
)


class Config(BaseModel):
    """A section of `conf/<env>/parameters_<pipeline>.yml`; Kedro validates it before any node runs."""

    model_config = ConfigDict(**STRICT, frozen=True)


# Limits of a watched process; the upper bounds are what the system can wait for and count.
SecondsLimit = Annotated[float, Field(gt=0, le=1_000_000)]
MibLimit = Annotated[int, Field(gt=0, le=2**40)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # accepted by torch and NumPy, also with a small number added


def first_reason(error: ValidationError) -> str:
    """Return the place and the reason of the first mistake that pydantic found."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the document"
    reason = first["msg"].removeprefix("Value error, ")
    return reason if reason.startswith(place) else f"{place}: {reason}"
