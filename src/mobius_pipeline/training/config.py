"""Configuration of the trainings."""

from typing import Literal

from pydantic import Field, model_validator

from mobius_pipeline.config import Config
from mobius_pipeline.devices import Device
from mobius_pipeline.models.variant import Mode, SpatialDtype, Variant


class ObjectiveConfig(Config):
    """What is minimised; the prediction type and the noise schedule are the base model's."""

    min_snr_gamma: float | None = Field(gt=0, description="null: every timestep weighs the same")
    noise_offset: float = Field(ge=0)
    zero_terminal_snr: bool
    caption_dropout: float = Field(ge=0, lt=1)


class OptimizerConfig(Config):
    """AdamW with a linear warm-up, then a constant or a falling learning rate, and gradient clipping."""

    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "cosine"] = Field(description="cosine falls to 0 at the last step")
    betas: tuple[float, float]
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    state_bits: Literal[8, 32] = Field(description="of AdamW's two moments; 8 needs torchao")


class TrainConfig(Config):
    """`conf/<env>/parameters_train.yml`: the same for both modes, so that the comparison is fair."""

    seed: int
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="clips")
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    autocast: Literal["bfloat16"] | None = Field(description="of the forward pass; null: float32")
    ema_decay: float = Field(ge=0, lt=1)
    evaluate_every: int = Field(gt=0, description="steps")
    evaluate_clips: int = Field(gt=0, description="held-out clips that are looked at during training")
    evaluate_timesteps: int = Field(gt=0, description="points of the fixed timestep grid")
    checkpoint_every: int = Field(gt=0, description="steps")
    keep_last: int = Field(gt=0, description="checkpoints")
    keep_every: int | None = Field(gt=0, description="steps; null: the last ones alone are kept")
    timer_warmup: int = Field(ge=0, description="first steps that the median step time leaves out")
    device: Device

    @model_validator(mode="after")
    def _rules(self) -> "TrainConfig":
        if self.timer_warmup >= self.steps:
            raise ValueError("train.timer_warmup must be below train.steps, or no step is timed")
        return self


class ModelConfig(Config):
    """What tells the modes apart: `serial.model` and `parallel.model` in the same file; see `Variant`."""

    mode: Mode
    width: float = Field(gt=0, le=1, description="the temporal stream's share of the spatial channels")
    stream_spatial: bool
    checkpoint_temporal: bool
    spatial_dtype: SpatialDtype
    channels_last: bool
    compile_spatial: bool

    @model_validator(mode="after")
    def _possible(self) -> "ModelConfig":
        _ = self.variant  # says what cannot work, and why
        return self

    @property
    def variant(self) -> Variant:
        """The same as the models know it."""
        return Variant(**self.model_dump())
