"""The comparison of trainings as a typed document: `comparison.json` is its serialisation.

Columns are in the order in which they were chosen; all others are compared against the first. A column is
named by its label, as `parallel (width 0.5)`, which is the key of dictionaries of figures. Figures of a
column of several training seeds are means.

`make schema` writes docs/schemas/comparison.schema.json from it.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mobius_pipeline.models.variant import Mode

Number = int | float  # an integer stays one unless it is the mean of different ones
Row = tuple[Number, float, float]
Bytes = Annotated[Number, Field(description="bytes")]
Parameters = Annotated[Number, Field(description="number of parameters")]
Clips = Annotated[int, Field(description="number of clips")]
Percent = Annotated[
    float | None, Field(description="per cent; null: the first's is zero, or one was not measured")
]


class Part(BaseModel):
    """A part of the comparison: immutable, without unknown keys; JSON keeps NaN and infinity as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Change(Part):
    """How far one loss lies from another, in pairs of clips or of training seeds, with a 95% interval."""

    percent: float = Field(description="mean difference, in per cent of the loss compared against")
    low: float | None = Field(description="lower end of the interval, per cent; null: fewer than two pairs")
    high: float | None = Field(description="upper end of the interval, per cent; null: fewer than two pairs")
    pairs: int = Field(description="pairs that the interval is over; 0: losses were read off mean curves")
    over: Literal["seeds", "clips"] = Field(description="what the pairs are of")


class Point(Part):
    """Where all columns have spent the same (steps, compute or time), as far as the one that spent least."""

    steps: dict[str, int] = Field(description="optimiser steps that each column had made")
    seconds: dict[str, float] = Field(description="s; steps times the median step time")
    flops: dict[str, float] = Field(description="FLOPs of these steps")
    losses: dict[str, float] = Field(description="held-out loss there")
    beside: dict[str, float | None] = Field(
        description="half the 95% interval of the loss over training seeds; null: one seed"
    )
    against: dict[str, Change] = Field(description="the others' loss against the first column's")


class Points(Part):
    """The three points at which losses are compared."""

    steps: Point = Field(description="at equal optimiser steps")
    compute: Point = Field(description="at equal FLOPs")
    time: Point = Field(description="at equal training time")


class Quality(Part):
    """How a set of videos scores."""

    colour: float | None = Field(description="share of videos that show their prompt's colour, 0 to 1")
    shape: float | None = Field(description="share that show its shape, 0 to 1")
    motion: float | None = Field(description="share that show its motion, 0 to 1")
    prompt_match: float | None = Field(
        description="share that show all three, 0 to 1; null: prompts that are not scored"
    )
    frechet: float | None = Field(description="Fréchet distance to real clips; null: too few clips")
    frechet_real: float | None = Field(description="Fréchet distance of real clips to other real clips")
    frechet_videos: Number | None = Field(description="videos in each set of the Fréchet distance")
    frechet_extractor: str | None = Field(description="what features the Fréchet distance is of")
    flicker: float | None = Field(
        description="mean absolute second difference of frames in 0..1; null: under 3 frames"
    )
    dynamic_degree: float | None = Field(description="mean absolute difference of frames in 0..1")


class References(Part):
    """What videos that no model made score for the first column's prompts; null: none has a real clip."""

    real: Quality | None = Field(default=None, description="the prompts' own real clips")
    still: Quality | None = Field(default=None, description="their first frames, held still")
    random: Quality | None = Field(default=None, description="real clips drawn at random")


class Memory(Part):
    """What the peak memory is made of, bytes."""

    weights: Bytes
    gradients: Bytes
    optimizer: Bytes
    activations: Bytes
    other: Bytes


class HalfIntervals(Part):
    """Half the 95% interval over training seeds of a column's figures; null: one seed."""

    heldout_loss: float | None = Field(description="mean squared error")
    training_s: float | None = Field(description="s")


class History(Part):
    """A column's curves, thinned to some hundred rows each."""

    loss: list[Row] = Field(description="step, training loss, seconds of training; means of neighbours")
    heldout: list[Row] = Field(description="step, held-out loss, seconds of training")


class SampleVideo(Part):
    """A sampled video."""

    prompt: str
    seed: int = Field(description="of its first noise")
    mp4: str = Field(description="path, relative to the folder of all samples")
    gif: str = Field(description="path, relative to the folder of all samples")
    clip: str | None = Field(description="the real clip of the prompt, relative to the folder of clips")


class RealVideo(Part):
    """The real clip of a sample's prompt."""

    prompt: str
    mp4: str | None = Field(description="path, relative to the folder of all samples; null: there is no clip")


class Column(Part):
    """Trainings that differ in their seed alone."""

    mode: Mode
    schedule: str = Field(description="of the learning rate")
    train_head: bool = Field(description="whether the base's last layers were trained, too")
    seeds: list[int] = Field(description="of the trainings")
    run_ids: list[str] = Field(description="their runs in MLflow, in the order of `seeds`")
    steps: Number = Field(description="optimiser steps of the whole training")
    trainable_parameters: Parameters
    total_parameters: Parameters
    peak_memory_bytes: Number = Field(description="bytes; the most in a whole optimiser step")
    memory_breakdown_bytes: Memory
    step_s: float = Field(description="s; median step time, measured in turns where that was possible")
    step_s_iqr: tuple[float, float] = Field(description="s; lower and upper quartile of step times")
    training_step_s: float = Field(description="s; median step time that the training itself measured")
    training_s: float = Field(description="s; sum of step times")
    data_s: float | None = Field(default=None, description="s; median wait of a step for its batch")
    frames_per_s: float = Field(description="frames trained on a second")
    flops_per_step: Number = Field(description="FLOPs, forward and backward")
    heldout_loss: float = Field(description="over all held-out clips at the end, EMA weights")
    heldout_loss_start: float = Field(description="over all held-out clips before the first step")
    heldout_loss_by_timestep: dict[str, float] = Field(
        description="mean over ranges of diffusion timesteps, named by first and last"
    )
    heldout_loss_at_steps: float | None = Field(
        default=None, description="at `train.steps`, where the training went on beyond"
    )
    beside: HalfIntervals
    watched: int | None = Field(description="held-out clips that the curve is of; null: not recorded")
    quality: Quality
    history: History
    samples: list[SampleVideo] = Field(description="of the first seed")


class StepTime(Part):
    """How long the optimiser steps of a column take."""

    median_s: float = Field(description="s")
    iqr_s: tuple[float, float] = Field(description="s; lower and upper quartile")


class StepTimes(Part):
    """Step times of all columns, measured in turns in one process."""

    columns: dict[str, StepTime] = Field(description="empty where they could not be measured")
    note: str = Field(description="why they could not; empty: they were")


class Relative(Part):
    """The change of a column against the first one: 100 * (other / first - 1)."""

    trainable_parameters: Percent
    peak_memory_bytes: Percent
    step_s: Percent
    training_s: Percent
    heldout_loss: Percent
    loss_at_steps: Percent
    loss_at_compute: Percent
    loss_at_time: Percent
    prompt_match: Percent


class Start(Part):
    """The untrained base."""

    heldout_loss: float = Field(description="over all held-out clips, of the first column's training")


class LeftOut(Part):
    """What clips failed."""

    label: str
    required: str
    clips: Clips
    kept: bool = Field(description="whether they were kept, with a warning")
    observed: str


class Data(Part):
    """The clips."""

    clips: Clips
    train: Clips
    heldout: Clips
    quarantined: Clips
    left_out: list[LeftOut]
    digest: str = Field(description="hex SHA-256 of encoder, clips, captions and splits")


class Fairness(Part):
    """Which of the things that must agree do agree between all columns."""

    same_base: bool
    same_data: bool
    same_draws: bool
    same_steps: bool
    same_optimizer: bool
    same_precision: bool
    same_device: bool

    @property
    def differing(self) -> list[str]:
        """The names of what differs, without their `same_`."""
        return [name.removeprefix("same_") for name, same in self if not same]


class Provenance(Part):
    """Where code, data and figures are from; package versions and DVC's hashes are further keys."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    experiment: str = Field(description="in MLflow")
    git: str = Field(description="commit, with -dirty where files differ; empty: no git")
    device: str
    created: str = Field(description="ISO 8601, UTC")


class Findings(Part):
    """What was measured and compared: what the verdict is made from."""

    start: Start
    heldout_change: dict[str, Change] = Field(description="each column's loss against the untrained base's")
    points: Points
    columns: dict[str, Column] = Field(min_length=2)
    paired_step_times: bool = Field(description="whether step times were measured in turns")
    timing_note: str = Field(description="why they were not; empty: they were")
    references: References
    relative_percent: dict[str, Relative] = Field(description="the others against the first column")
    data: Data
    fairness: Fairness
    provenance: Provenance

    @property
    def first(self) -> str:
        """The label of the column that the others are compared against."""
        return next(iter(self.columns))

    @property
    def others(self) -> list[str]:
        """The labels of the other columns."""
        return list(self.columns)[1:]


class Comparison(Findings):
    """A comparison of trainings."""

    verdict: str = Field(description="the comparison in words")
    real: list[RealVideo] = Field(description="one for each sample of the first column")
    run_pages: dict[str, str | None] = Field(
        description="address of each run in MLflow's UI; null: not kept on this machine"
    )


def schema() -> str:
    """The JSON schema of `comparison.json`, as text."""
    return json.dumps(Comparison.model_json_schema(mode="serialization"), indent=2) + "\n"
