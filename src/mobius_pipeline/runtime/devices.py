"""Check that this machine has a device."""

from typing import Annotated

from pydantic import AfterValidator

from mobius_pipeline.runtime.errors import MobiusError


def usable(name: str) -> str:
    """Return `name` if torch can use that device on this machine.

    Raises:
        MobiusError: If it cannot, with the reason.
    """
    if name == "cpu":  # needs no import of torch
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


Device = Annotated[str, AfterValidator(usable)]  # in a configuration: checked when it is read
