"""Configuration of a study: `conf/<env>/parameters_study.yml`."""

from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.config import Config, Seed, first_reason


class StudyConfig(Config):
    """The models that a study trains, and how often.

    Attributes:
        tails: Tails of the grid of parallel models.
        widths: Widths of the grid; tail 0 without a stream is left out.
        more: Further models, as changes to a parallel one without tail and stream, or with `mode: serial`.
        rates: Learning rates; every model is trained with each of them.
        seeds: Seeds of models near the front, at the best rate of each; all other models have only the first.
        near: A model is near the front if its loss at equal compute is above that of every model with no more
            memory by at most this share; serial always is.
        paired_steps: Steps of each model that are timed, in turns.
    """

    tails: tuple[int, ...]
    widths: tuple[float, ...]
    more: tuple[dict[str, Any], ...]
    rates: tuple[float, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    near: float = Field(ge=0)
    paired_steps: int = Field(gt=1)

    @field_validator("more")
    @classmethod
    def _known(cls, more: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for changes in more:
            try:
                variant(changes)
            except ValidationError as error:
                raise ValueError(
                    f"study.more: {changes} are not options of a model ({first_reason(error)})"
                ) from error
        return more

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [name(one) for one in self._every()]
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise ValueError(f"study.more: the study has {', '.join(twice)} already. Remove it there")
        return self

    def models(self) -> dict[str, Variant]:
        """Return every model by its name, serial first."""
        return {name(one): one for one in self._every()}

    def _every(self) -> list[Variant]:
        grid = [
            Variant("parallel", tail=tail, width=width)
            for tail in self.tails
            for width in self.widths
            if tail or width
        ]
        return [Variant("serial"), *grid, *(variant(changes) for changes in self.more)]


def variant(changes: dict[str, Any]) -> Variant:
    """Build the model that `changes` describes.

    Raises:
        ValidationError: If an option is unknown, or the options cannot be combined.
    """
    return Variant(**{"mode": "parallel", **changes})


def name(model: Variant) -> str:
    """Return a model's name: `tail 1, width 0.25, attention`."""
    words = [model.mode] if model.mode != "parallel" else [f"tail {model.tail}", f"width {model.width:g}"]
    words += ["attention"] if model.blocks == "attention" else []
    words += ["trained head"] if model.train_head else []
    levers = {
        "checkpoint_temporal": False,
        "spatial_dtype": "float32",
        "channels_last": False,
        "compile_spatial": False,
    }
    words += [f"{key} {getattr(model, key)}" for key, plain in levers.items() if getattr(model, key) != plain]
    return ", ".join(words)
