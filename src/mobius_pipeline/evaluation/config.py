"""Configuration of the evaluation."""

from pydantic import Field

from mobius_pipeline.config import Config


class EvaluateConfig(Config):
    """`conf/<env>/parameters_evaluate.yml`."""

    seed: int = Field(description="of the draws of reference clips")
    paired_steps: int = Field(gt=1, description="steps of each mode that are timed taking turns")
    reference_clips: int = Field(gt=3, description="real clips that the Fréchet distance draws from")
