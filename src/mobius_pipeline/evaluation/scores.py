"""Scores of a set of videos."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mobius_pipeline.runtime.document import Document


class Quality(Document):
    """Scores of a set of videos."""

    colour: float | None = Field(description="share of videos that show their prompt's colour, 0 to 1")
    shape: float | None = Field(description="share that show its shape, 0 to 1")
    motion: float | None = Field(description="share that show its motion, 0 to 1")
    prompt_match: float | None = Field(
        description="share that show all three, 0 to 1; null: the prompts cannot be scored"
    )
    frechet: float | None = Field(description="Fréchet distance to real clips; null: too few clips")
    frechet_real: float | None = Field(description="Fréchet distance of real clips to other real clips")
    frechet_videos: int | float | None = Field(description="videos in each set of the Fréchet distance")
    frechet_extractor: str | None = Field(description="name of the Fréchet distance's feature extractor")
    flicker: float | None = Field(
        description="mean absolute second difference of frames in 0..1; null: fewer than 3 frames"
    )
    dynamic_degree: float | None = Field(description="mean absolute difference of frames in 0..1")


def _upgraded(scores: Any) -> Any:
    """Return the scores that this version knows; those that an earlier version did not measure are None.

    What has no known score is returned as it is, and refused.
    """
    if not isinstance(scores, dict) or not scores.keys() & Quality.model_fields.keys():
        return scores
    return {name: scores.get(name) for name in Quality.model_fields}


RecordedQuality = Annotated[Quality, BeforeValidator(_upgraded)]  # in a file of any version
