"""Configuration of trainings."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mobius_pipeline.runtime.config import Config, Seed
from mobius_pipeline.runtime.devices import Device
from mobius_pipeline.runtime.errors import MobiusError


class ObjectiveConfig(Config):
    """The denoising objective; its prediction type and noise schedule are the base model's."""

    min_snr_gamma: float | None = Field(gt=0, description="null: all timesteps have the same weight")
    noise_offset: float = Field(ge=0)
    zero_terminal_snr: bool
    caption_dropout: float = Field(ge=0, lt=1)


Schedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]  # of diffusers.optimization.get_scheduler


class RateScaling(Config):
    """Scaling of the learning rate from the batch size that it was chosen for."""

    rule: Literal["linear", "sqrt"] = Field(description="linear: Goyal et al. 2017, for SGD; sqrt suits Adam")
    reference_batch: int = Field(gt=0, description="batch size that learning_rate was chosen for")


class OptimizerConfig(Config):
    """AdamW with gradient clipping and a learning rate schedule of diffusers."""

    learning_rate: float = Field(gt=0)
    scaling: RateScaling | None = Field(description="null: learning_rate is used unchanged")
    schedule: Schedule
    betas: tuple[float, float]
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    state_bits: Literal[8, 32] = Field(description="bits of AdamW's two moments; 8 needs torchao")

    @model_validator(mode="after")
    def _rules(self) -> "OptimizerConfig":
        if self.schedule == "constant" and self.warmup_steps:
            raise ValueError(
                "train.optimizer.schedule constant has no warm-up: set warmup_steps to 0, or use "
                "constant_with_warmup"
            )
        return self


class Rendezvous(Config):
    """Where the machines of a training meet; `mobius join` runs on each machine but the main one."""

    endpoint: str = Field(pattern=r"^.+:\d+$", description="host:port, reachable from all machines")
    nodes: int = Field(gt=1, description="machines")


class PreviewConfig(Config):
    """Videos sampled during training, each time from the same prompts and noise."""

    every: int = Field(gt=0, description="steps")
    prompts: list[str] | None = Field(
        min_length=1, description="null: the captions of the first `count` held-out clips"
    )
    count: int = Field(gt=0)
    steps: int = Field(gt=0, description="DDIM steps")
    guidance_scale: float = Field(ge=1)
    seed: Seed = Field(description="preview i is sampled with seed + i")


OnMismatch = Literal["restart", "refuse", "fork"]

# Settings that determine a training's result; all others may change when it resumes. `equal_compute` acts
# through `last_step`; the number of processes and the device only affect how sums are rounded.
_DECIDES = {
    "seed",
    "steps",
    "last_step",
    "batch_size",
    "gradient_accumulation_steps",  # affects the peak memory
    "objective",
    "optimizer",
    "autocast",
    "ema_decay",
    "ema_warmup_power",
    "evaluate_every",  # affects the curve that gives the losses at equal time
    "evaluate_clips",
    "evaluate_timesteps",
}


def refuse_uneven(batch_size: int, processes: int, parts: int) -> None:
    """Refuse a batch that processes cannot share equally, each in so many parts.

    Raises:
        MobiusError: With the batch size and the number that it must be a multiple of.
    """
    if batch_size % (processes * parts):
        raise MobiusError(
            f"train.batch_size: {batch_size} clips cannot be shared by {processes} processes "
            f"in {parts} parts each: make it a multiple of {processes * parts}"
        )


class TrainConfig(Config):
    """`conf/<env>/parameters_train.yml`: the same for both modes, so that the comparison is fair."""

    seed: Seed
    steps: int = Field(gt=1, description="at least two: memory is measured after the first")
    equal_compute: bool = Field(
        description="parallel continues beyond `steps` until it has spent the FLOPs of serial's `steps`"
    )
    last_step: int | None = Field(
        default=None, description="step at which training ends, set by equal_compute; null: `steps`"
    )
    batch_size: int = Field(gt=0, description="clips per optimiser step, over all processes")
    gradient_accumulation_steps: int = Field(
        gt=0, description="parts that each process splits its share of the batch into"
    )
    num_processes: int = Field(gt=0, description="processes on this machine; with CUDA one per GPU")
    rendezvous: Rendezvous | None = Field(description="null: only this machine")
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    autocast: Literal["bfloat16"] | None = Field(description="of the forward pass; null: float32")
    ema_decay: float = Field(ge=0, lt=1)
    ema_warmup_power: float | None = Field(
        gt=0, le=1, description="decay 1 - (1 + step)^-power until ema_decay; null: (1 + step) / (10 + step)"
    )
    evaluate_every: int = Field(gt=0, description="steps")
    evaluate_clips: int = Field(gt=0, description="held-out clips that are evaluated during training")
    evaluate_timesteps: int = Field(gt=0, description="points of the fixed timestep grid")
    previews: PreviewConfig | None = Field(description="null: no previews")
    checkpoint_every: int = Field(gt=0, description="steps")
    keep_last: int = Field(gt=0, description="newest checkpoints to keep")
    keep_every: int | None = Field(gt=0, description="steps; also keep checkpoints at multiples of it")
    on_mismatch: OnMismatch = Field(
        description="if the mode was last trained with other settings: start at step 0, stop and list the "
        "differences, or start from its newest checkpoint"
    )
    timer_warmup: int = Field(ge=0, description="first steps, excluded from the median step time")
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
                f"train.device: {self.device} is a single device; with several processes set cuda (one GPU "
                "each) or cpu"
            )
        refuse_uneven(self.batch_size, self.processes, self.gradient_accumulation_steps)
        return self

    @property
    def end(self) -> int:
        """Last step of the training."""
        return self.steps if self.last_step is None else self.last_step

    @property
    def processes(self) -> int:
        """Number of processes on all machines."""
        return self.num_processes * (self.rendezvous.nodes if self.rendezvous else 1)

    @property
    def parts(self) -> int:
        """Number of forward and backward passes per batch, over all processes."""
        return self.processes * self.gradient_accumulation_steps

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON values; they identify the resume state."""
        return self.model_dump(mode="json", include=_DECIDES)

    @classmethod
    def runtime_keys(cls) -> set[str]:
        """Return the names of all other settings, which say where and how the training is computed."""
        return cls.model_fields.keys() - _DECIDES

    def runtime(self) -> dict[str, Any]:
        """Return the settings of `runtime_keys`, as JSON values."""
        return self.model_dump(mode="json", include=self.runtime_keys())
