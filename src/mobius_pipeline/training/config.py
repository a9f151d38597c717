"""Configuration of the trainings."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mobius_pipeline.models.variant import Blocks, Mode, SpatialDtype, Variant
from mobius_pipeline.runtime.config import Config, Seed
from mobius_pipeline.runtime.devices import Device


class ObjectiveConfig(Config):
    """What is minimised; the prediction type and the noise schedule are the base model's."""

    min_snr_gamma: float | None = Field(gt=0, description="null: every timestep weighs the same")
    noise_offset: float = Field(ge=0)
    zero_terminal_snr: bool
    caption_dropout: float = Field(ge=0, lt=1)


Schedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]  # of diffusers.optimization.get_scheduler


class RateScaling(Config):
    """How the learning rate follows the batch size, where it was chosen for another one."""

    rule: Literal["linear", "sqrt"] = Field(description="Goyal et al. 2017 for SGD; sqrt suits Adam")
    reference_batch: int = Field(gt=0, description="clips; the batch that learning_rate was chosen for")


class OptimizerConfig(Config):
    """AdamW with a schedule of diffusers, and gradient clipping."""

    learning_rate: float = Field(gt=0)
    scaling: RateScaling | None = Field(description="null: learning_rate is taken unchanged")
    schedule: Schedule
    betas: tuple[float, float]
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    state_bits: Literal[8, 32] = Field(description="of AdamW's two moments; 8 needs torchao")

    @model_validator(mode="after")
    def _rules(self) -> "OptimizerConfig":
        if self.schedule == "constant" and self.warmup_steps:
            raise ValueError(
                "train.optimizer.schedule constant has no warm-up: set warmup_steps to 0, or take "
                "constant_with_warmup"
            )
        return self


class Rendezvous(Config):
    """Where the machines of a training meet; `mobius join` on each of the others."""

    endpoint: str = Field(pattern=r"^.+:\d+$", description="host:port, reachable from all of them")
    nodes: int = Field(gt=1, description="machines")


class PreviewConfig(Config):
    """Videos that are sampled while the model trains, from the same prompts and noise each time."""

    every: int = Field(gt=0, description="steps")
    prompts: list[str] | None = Field(
        min_length=1, description="null: the captions of the first `count` held-out clips"
    )
    count: int = Field(gt=0)
    steps: int = Field(gt=0, description="DDIM steps")
    guidance_scale: float = Field(ge=1)
    seed: Seed = Field(description="preview i is drawn with seed + i")


OnMismatch = Literal["restart", "refuse", "fork"]

# What a training's result follows from; all else may change between a stop and the next start.
# `equal_compute` acts through `last_step`; processes and device change no more than how sums are rounded.
_DECIDES = {
    "seed",
    "steps",
    "last_step",
    "batch_size",
    "gradient_accumulation_steps",  # of the peak memory
    "objective",
    "optimizer",
    "autocast",
    "ema_decay",
    "ema_warmup_power",
    "evaluate_every",  # of the curve that losses at equal time are read off
    "evaluate_clips",
    "evaluate_timesteps",
}


class TrainConfig(Config):
    """`conf/<env>/parameters_train.yml`: the same for both modes, so that the comparison is fair."""

    seed: Seed
    steps: int = Field(gt=1, description="two at least: memory is measured from the second on")
    equal_compute: bool = Field(
        description="parallel goes on beyond `steps` until it has spent the FLOPs of serial's `steps`"
    )
    last_step: int | None = Field(default=None, description="what follows from that; null: `steps`")
    batch_size: int = Field(gt=0, description="clips of an optimiser step, over all processes")
    gradient_accumulation_steps: int = Field(gt=0, description="parts that a process takes its share in")
    num_processes: int = Field(gt=0, description="on this machine; with CUDA one a GPU")
    rendezvous: Rendezvous | None = Field(description="null: this machine alone")
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    autocast: Literal["bfloat16"] | None = Field(description="of the forward pass; null: float32")
    ema_decay: float = Field(ge=0, lt=1)
    ema_warmup_power: float | None = Field(
        gt=0, le=1, description="decay 1 - (1 + step)^-power until ema_decay; null: (1 + step) / (10 + step)"
    )
    evaluate_every: int = Field(gt=0, description="steps")
    evaluate_clips: int = Field(gt=0, description="held-out clips that are looked at during training")
    evaluate_timesteps: int = Field(gt=0, description="points of the fixed timestep grid")
    previews: PreviewConfig | None = Field(description="null: none")
    checkpoint_every: int = Field(gt=0, description="steps")
    keep_last: int = Field(gt=0, description="checkpoints")
    keep_every: int | None = Field(gt=0, description="steps; null: the last ones alone are kept")
    on_mismatch: OnMismatch = Field(
        description="where the mode was last trained with other settings: start again at step 0, stop with "
        "what differs, or go on from its newest checkpoint"
    )
    timer_warmup: int = Field(ge=0, description="first steps that the median step time leaves out")
    device: Device

    @model_validator(mode="after")
    def _rules(self) -> "TrainConfig":
        if self.end < self.steps:
            raise ValueError(f"train.last_step: {self.end} is before train.steps: {self.steps}")
        if self.timer_warmup > self.steps - 2:
            raise ValueError(
                f"train.timer_warmup: {self.timer_warmup} leaves no step to time. With train.steps: "
                f"{self.steps} it may be 0 to {self.steps - 2}: one step is measured for memory and not timed"
            )
        if self.processes > 1 and self.device not in ("cpu", "cuda"):
            raise ValueError(
                f"train.device: {self.device} is one device; with several processes name cuda (each takes "
                "its own) or cpu"
            )
        if self.batch_size % self.parts:
            raise ValueError(
                f"train.batch_size: {self.batch_size} clips cannot be shared by {self.processes} processes "
                f"in {self.gradient_accumulation_steps} parts each: make it a multiple of {self.parts}"
            )
        return self

    @property
    def end(self) -> int:
        """The step that the training ends with."""
        return self.steps if self.last_step is None else self.last_step

    @property
    def processes(self) -> int:
        """Processes on all machines."""
        return self.num_processes * (self.rendezvous.nodes if self.rendezvous else 1)

    @property
    def parts(self) -> int:
        """Forward and backward passes that a batch is computed in, over all processes."""
        return self.processes * self.gradient_accumulation_steps

    def identity(self) -> dict[str, Any]:
        """What decides on the result, as JSON takes it; resume state is found by it."""
        return self.model_dump(mode="json", include=_DECIDES)

    @classmethod
    def runtime_keys(cls) -> set[str]:
        """The other settings: where and how it is computed, kept and shown."""
        return cls.model_fields.keys() - _DECIDES

    def runtime(self) -> dict[str, Any]:
        """Their values, as JSON takes them."""
        return self.model_dump(mode="json", include=self.runtime_keys())


class ModelConfig(Config):
    """What distinguishes the modes: `serial.model` and `parallel.model` in the same file; see `Variant`."""

    mode: Mode
    tail: int = Field(ge=0, description="last decoder layers that run on the fused state, with gradients")
    width: float = Field(ge=0, le=1, description="the stream's share of the base's channels; 0: no stream")
    blocks: Blocks
    train_head: bool
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
