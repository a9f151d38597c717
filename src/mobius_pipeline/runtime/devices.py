"""Devices that the machine at hand has."""

from typing import Annotated

from pydantic import AfterValidator

from mobius_pipeline.runtime.errors import MobiusError


def usable(name: str) -> str:
    """Give `name` back if torch can use that device here.

    Raises:
        MobiusError: If it cannot, with its reason.
    """
    if name == "cpu":  # without loading torch
        return name
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MobiusError(
            f"device: {name} cannot be used here ({reason}). Set device: cpu, or repair the driver or the "
            "installation of torch"
        ) from error
    return name


Device = Annotated[str, AfterValidator(usable)]  # of a configuration: refused when it is read
