"""The base of every configuration model: unknown keys are errors, values are immutable once read."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A section of `conf/<env>/parameters_<pipeline>.yml`; Kedro validates it before any node runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClipFormat(Config):
    """What the models see of a clip: `frames` frames of `height` x `width` px, `fps` a second."""

    frames: int
    height: int
    width: int
    fps: float
