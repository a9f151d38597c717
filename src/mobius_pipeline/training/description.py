"""Which training a folder belongs to: the models of `training.json`.

Settings are kept as they were recorded, since another version of this package may have had other ones:
`Variant` and `TrainConfig` check them where a training runs.
"""

from typing import Any, Self

from pydantic import model_validator

from mobius_pipeline.runtime.files import digest
from mobius_pipeline.training.config import TrainConfig
from mobius_pipeline.training.metrics import Recorded


class Fingerprints(Recorded):
    """Digests (SHA-256, hex) of what a training depends on: configuration, base model, data."""

    config: str
    base: str
    data: str

    @property
    def combined(self) -> str:
        """One digest of all three."""
        return digest([self.config, self.base, self.data])


class Identity(Recorded):
    """The settings that determine the result of a training.

    Attributes:
        model: The settings of `Variant`.
        train: The settings of `TrainConfig` that change the result.
        fingerprints: Digests of all settings, the base and the data.
        forked_at: The step of another training's checkpoint that it started from; None: from step 0.
    """

    model: dict[str, Any]
    train: dict[str, Any]
    fingerprints: Fingerprints
    forked_at: int | None

    @property
    def mode(self) -> str:
        """Mode of the model; see `Variant`."""
        return str(self.model["mode"])

    @property
    def train_head(self) -> bool:
        """Whether the base's head was trained, too."""
        return bool(self.model.get("train_head", False))

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.train["seed"])

    @property
    def steps(self) -> int:
        """Optimiser steps after which modes are compared: `train.steps`."""
        return int(self.train["steps"])

    @property
    def schedule(self) -> str:
        """Schedule of the learning rate; earlier versions had none."""
        return str(self.train.get("optimizer", {}).get("schedule", "constant"))


class Description(Identity):
    """A finished training.

    Attributes:
        processes: Number of its processes.
        devices: Devices that it ran on, in order.
        runtime: The settings of `TrainConfig` that do not change the result.
    """

    processes: int
    devices: list[str]
    runtime: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, found: Any) -> Any:
        """Move the runtime settings out of `train`, where earlier versions kept them."""
        if not isinstance(found, dict) or "runtime" in found or not isinstance(found.get("train"), dict):
            return found
        of_runtime = TrainConfig.runtime_keys() & found["train"].keys()
        train = {key: value for key, value in found["train"].items() if key not in of_runtime}
        runtime = {key: found["train"][key] for key in of_runtime}
        return {**found, "train": train, "runtime": runtime, "devices": [runtime.get("device")]}

    @model_validator(mode="after")
    def _has_what_all_versions_have(self) -> Self:
        needed = {"model.mode": self.model, "train.seed": self.train, "train.steps": self.train}
        if lacking := [key for key, part in needed.items() if key.partition(".")[2] not in part]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        return self
