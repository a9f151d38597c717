"""`conf/<env>/parameters_study.yml`, typed."""

from typing import Any, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from mobius_pipeline.models.variant import Variant
from mobius_pipeline.runtime.config import Config, Seed

_VARIANT = TypeAdapter(Variant)


class StudyConfig(Config):
    """Which models a study trains, and how often.

    Attributes:
        tails: Of the grid of parallel models.
        widths: Likewise; tail 0 without a stream is left out.
        more: Further models, as changes of a parallel one without tail and stream, or of `mode: serial`.
        rates: Learning rates that every model is trained with.
        seeds: Of the models near the front, with the best rate of each; the first is every model's.
        near: A model is near the front if its loss at equal compute is at most so much above, as a share,
            that of a model that needs no more memory; serial always is.
        paired_steps: Steps of each model that are timed, taking turns.
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
                reasons = "; ".join(
                    f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
                )
                raise ValueError(f"study.more: {changes} are not options of a model ({reasons})") from error
        return more

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [name(one) for one in self._every()]
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise ValueError(f"study.more: the study has {', '.join(twice)} already. Remove it there")
        return self

    def models(self) -> dict[str, Variant]:
        """Every model by its name, serial first."""
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
    """The model that `changes` describe.

    Raises:
        ValidationError: If an option is unknown or its value impossible.
    """
    return _VARIANT.validate_python({"mode": "parallel", **changes})


def name(model: Variant) -> str:
    """A model in words: `tail 1, width 0.25, attention`."""
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
