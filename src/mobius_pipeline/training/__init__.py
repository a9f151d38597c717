"""Train a mode from the latents store, with Kedro and MLflow around it or without (docs/library.md).

The names below are imported when they are asked for: configurations are read without loading torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Listener": "report",
    "ModelConfig": "config",
    "TrainConfig": "config",
    "train_mode": "run",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
