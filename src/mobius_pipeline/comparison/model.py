"""The comparison of trainings as pydantic models; `comparison.json` is a serialised `Comparison`.

Columns are in the order in which they were chosen, and the others are compared with the first. Dictionaries
of figures have the columns' labels as keys, such as `parallel (width 0.5)`. Figures of a column with
several training seeds are means over them.

`make schema` writes docs/schemas/comparison.schema.json from these models.
"""

import json
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.runtime.document import Document
from mobius_pipeline.training.metrics import Curves, Memory, Number

Bytes = Annotated[Number, Field(description="bytes")]
Parameters = Annotated[Number, Field(description="number of parameters")]
Clips = Annotated[int, Field(description="number of clips")]
Percent = Annotated[
    float | None, Field(description="per cent; null: the first value is zero, or a value was not measured")
]


class Change(Document):
    """Difference between two losses, paired by clip or by training seed, with a 95% interval."""

    percent: float = Field(description="mean difference, in per cent of the reference loss")
    low: float | None = Field(description="lower end of the interval, per cent; null: fewer than two pairs")
    high: float | None = Field(description="upper end of the interval, per cent; null: fewer than two pairs")
    pairs: int = Field(description="number of pairs; 0: losses were read off mean curves")
    over: Literal["seeds", "clips"] = Field(description="unit of the pairs")


class Point(Document):
    """Point at which all columns have spent the same steps, compute or time: the smallest total of all."""

    steps: dict[str, int] = Field(description="optimiser steps of each column up to the point")
    seconds: dict[str, float] = Field(description="s; steps times the median step time")
    flops: dict[str, float] = Field(description="FLOPs of these steps")
    losses: dict[str, float] = Field(description="held-out loss at the point")
    ci95_half: dict[str, float | None] = Field(
        description="half the 95% interval of the loss over training seeds; null: one seed"
    )
    against: dict[str, Change] = Field(description="change of the other columns' loss from the first's")


class Points(Document):
    """The three points at which losses are compared."""

    steps: Point = Field(description="at equal optimiser steps")
    compute: Point = Field(description="at equal FLOPs")
    time: Point = Field(description="at equal training time")


class References(Document):
    """Scores of reference videos for the first column's prompts; null: no prompt has a real clip."""

    real: Quality | None = Field(default=None, description="the prompts' own real clips")
    still: Quality | None = Field(default=None, description="the first frame of each real clip, repeated")
    random: Quality | None = Field(default=None, description="real clips drawn at random")


class HalfIntervals(Document):
    """Half the 95% interval over training seeds of a column's figures; null: one seed."""

    heldout_loss: float | None = Field(description="mean squared error")
    training_s: float | None = Field(description="s")


class SampleVideo(Document):
    """A sampled video."""

    prompt: str
    seed: int = Field(description="seed of the initial noise")
    mp4: str = Field(description="path, relative to the folder of all samples")
    gif: str = Field(description="path, relative to the folder of all samples")
    clip: str | None = Field(description="path of the prompt's real clip, relative to the clip folder")


class RealVideo(Document):
    """The real clip of a sample's prompt."""

    prompt: str
    mp4: str | None = Field(description="path, relative to the folder of all samples; null: no real clip")


class Column(Document):
    """Trainings that differ only in their seed."""

    mode: Mode
    schedule: str = Field(description="learning-rate schedule")
    train_head: bool = Field(description="whether the base's last layers were trained, too")
    seeds: list[int] = Field(description="training seeds")
    run_ids: list[str] = Field(description="MLflow run ids, in the order of `seeds`")
    steps: Number = Field(description="optimiser steps of the whole training")
    trainable_parameters: Parameters
    total_parameters: Parameters
    peak_memory_bytes: Number = Field(description="bytes; the peak over a whole optimiser step")
    memory_breakdown_bytes: Memory
    step_s: float = Field(description="s; median step time, measured in turns if possible")
    step_s_iqr: tuple[float, float] = Field(description="s; lower and upper quartile of step times")
    training_step_s: float = Field(description="s; median step time that the training itself measured")
    training_s: float = Field(description="s; sum of step times")
    data_s: float | None = Field(default=None, description="s; median wait of a step for its batch")
    frames_per_s: float = Field(description="trained frames per second")
    flops_per_step: Number = Field(description="FLOPs of a step, forward and backward")
    heldout_loss: float = Field(description="over all held-out clips at the end, EMA weights")
    heldout_loss_start: float = Field(description="over all held-out clips before the first step")
    heldout_loss_by_timestep: dict[str, float] = Field(
        description="mean loss by bin of diffusion timesteps; a bin is named by its first and last timestep"
    )
    heldout_loss_at_steps: float | None = Field(
        default=None, description="loss at `train.steps`, if the training continued beyond"
    )
    ci95_half: HalfIntervals
    watched: int | None = Field(description="held-out clips that the curve covers; null: not recorded")
    quality: Quality
    history: Curves = Field(description="thinned to a few hundred rows each; training losses averaged")
    samples: list[SampleVideo] = Field(description="samples of the first training seed")


class StepTime(Document):
    """Times of a column's optimiser steps."""

    median_s: float = Field(description="s")
    iqr_s: tuple[float, float] = Field(description="s; lower and upper quartile")


class StepTimes(Document):
    """Step times of all columns, measured in turns in one process."""

    columns: dict[str, StepTime] = Field(description="empty if they could not be measured")
    note: str = Field(description="reason why they could not be measured; empty if they were")


class Relative(Document):
    """Change of a column relative to the first: 100 * (other / first - 1)."""

    trainable_parameters: Percent
    peak_memory_bytes: Percent
    step_s: Percent
    training_s: Percent
    heldout_loss: Percent
    loss_at_steps: Percent
    loss_at_compute: Percent
    loss_at_time: Percent
    prompt_match: Percent


class Start(Document):
    """The untrained base."""

    heldout_loss: float = Field(description="over all held-out clips, from the first column's training")


class LeftOut(Document):
    """A check that clips failed."""

    label: str
    required: str
    clips: Clips
    kept: bool = Field(description="whether they were kept, with a warning")
    observed: str


class Data(Document):
    """The clips that were trained on, held out and left out."""

    clips: Clips
    train: Clips
    heldout: Clips
    quarantined: Clips
    left_out: list[LeftOut]
    digest: str = Field(description="SHA-256 (hex) of encoder, clips, captions and splits")


class Fairness(Document):
    """What is the same in all columns; a fair comparison needs all of it."""

    same_base: bool
    same_data: bool
    same_draws: bool
    same_steps: bool
    same_optimizer: bool
    same_precision: bool
    same_device: bool

    @property
    def differing(self) -> list[str]:
        """Names of what differs, without the prefix `same_`."""
        return [name.removeprefix("same_") for name, same in self if not same]


class Provenance(Document):
    """Origin of code, data and figures; package versions and DVC's hashes are further keys."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    experiment: str = Field(description="MLflow experiment")
    git: str = Field(description="commit, with -dirty if files were changed; empty: no git")
    device: str
    created: str = Field(description="ISO 8601, UTC")


class Findings(Document):
    """What was measured and compared; the verdict follows from it."""

    start: Start
    heldout_change: dict[str, Change] = Field(description="change of each column's loss from the base's")
    points: Points
    columns: dict[str, Column] = Field(min_length=2)
    paired_step_times: bool = Field(description="whether step times were measured in turns")
    timing_note: str = Field(description="reason why they were not; empty if they were")
    references: References
    relative_percent: dict[str, Relative] = Field(description="the others relative to the first column")
    data: Data
    fairness: Fairness
    provenance: Provenance

    @property
    def first(self) -> str:
        """Label of the column that the others are compared with."""
        return next(iter(self.columns))

    @property
    def others(self) -> list[str]:
        """Labels of the other columns."""
        return list(self.columns)[1:]


class Comparison(Findings):
    """A comparison of trainings."""

    verdict: str = Field(description="the comparison in words")
    real: list[RealVideo] = Field(description="real clips, one for each sample of the first column")
    run_pages: dict[str, str | None] = Field(
        description="URL of each run in MLflow's UI; null: runs are not recorded"
    )


def schema() -> str:
    """Return the JSON schema of `comparison.json` as text."""
    return json.dumps(Comparison.model_json_schema(mode="serialization"), indent=2) + "\n"
