"""Configuration of sampling."""

from pydantic import Field, model_validator

from mobius_pipeline.ingest.split import Split
from mobius_pipeline.runtime.config import Config, Seed
from mobius_pipeline.runtime.devices import Device


class SampleConfig(Config):
    """`conf/<env>/parameters_sample.yml`: the same prompts and seeds for both modes."""

    prompts: list[str] | None = Field(description="null: the captions of `count` clips of `split`")
    split: Split
    count: int = Field(gt=0)
    seed: Seed = Field(description="sample i is sampled with seed + i")
    steps: int = Field(gt=0, description="DDIM steps")
    guidance_scale: float = Field(ge=1)
    batch_size: int = Field(gt=0, description="videos per batch")
    magnify: int = Field(gt=0, le=64, description="px per pixel of the frames, in mp4 and gif")
    device: Device

    @model_validator(mode="after")
    def _rules(self) -> "SampleConfig":
        if self.prompts is not None and not self.prompts:
            raise ValueError("sample.prompts is empty: name prompts, or set it to null")
        return self
